"""MESA's staircase: the ensemble of generators that stands for the whole distribution of triggers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from pydantic import model_validator
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.classifiers import Classifier, frozen
from untrigger.errors import UserError
from untrigger.flows import FlowGenerator
from untrigger.generators import TOLERANCE, TriggerGenerator, level_of, load_generator
from untrigger.measurements import FreshSamples
from untrigger.metrics import testing_function
from untrigger.mutual_information import estimate_mutual_information
from untrigger.settings.base import Stored
from untrigger.settings.methods import GeneratorSettings
from untrigger.settings.stairs import checked_betas, checked_gammas
from untrigger.triggers import Sampler, one_of

MEASURED_AT_ONCE = 100

SMALLEST_SHORTFALL = 0.001
"""Of F from 1, by which a stair is weighted: no stair outweighs all others because it lies a little nearer to 1."""

VALID = "valid.safetensors"
"""The triggers of a flow that passed F >= beta, in the folder of its stair."""


class SizedSampler(Sampler, Protocol):
    """Draws triggers of one size: a generator, or what it left."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""


class ValidTriggers:
    """Draws, with replacement, from triggers that passed F >= beta, float (n, 3, height, width)."""

    def __init__(self, triggers: Tensor) -> None:
        self.triggers = triggers

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        _, _, height, width = self.triggers.shape
        return height, width

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Triggers, float (count, 3, height, width) in [0, 1]; a TriggerSource."""
        return one_of(self.triggers)(count, rng)


@dataclass(frozen=True)
class Staircase:
    """Generators in the order of their betas, and the weights gamma with which samples are drawn from them.

    levels: of F, what each stair stands for: its beta, or what the training of a top stair found.
    """

    generators: tuple[SizedSampler, ...]
    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    levels: tuple[float, ...]

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Fresh triggers, float (count, 3, th, tw) in [0, 1], each from a stair drawn by weight; a TriggerSource."""
        weights = torch.tensor(self.gammas, dtype=torch.float64)
        stairs = torch.multinomial(weights, count, replacement=True, generator=rng)
        triggers = torch.empty(count, 3, *self.generators[0].size)
        for index, part in enumerate(self.generators):
            chosen = stairs == index
            if bool(chosen.any()):
                triggers[chosen] = part.sample(int(chosen.sum()), rng).cpu()
        return triggers

    def generator_of(self, beta: float) -> SizedSampler:
        """The generator of the stair `beta`; UserError when there is none."""
        if beta not in self.betas:
            raise UserError(f"the staircase has no stair {beta}, only {', '.join(f'{b}' for b in self.betas)}")
        return self.generators[self.betas.index(beta)]


def build_staircase(stairs: Sequence[tuple[SizedSampler, float]], gammas: tuple[float, ...] | None = None) -> Staircase:
    """The staircase of (generator, beta) pairs in any order.

    gammas: by rising beta; when None, stairs of flows get 1 / (1 - level)**2 and others equal weights: high stairs
    cure more at a low dose, as `docs/measurements.md` shows, and the level is what a defender can see.
    """
    ordered = sorted(stairs, key=lambda stair: stair[1])
    generators, betas = tuple(generator for generator, _ in ordered), checked_betas(tuple(beta for _, beta in ordered))
    levels = tuple(level_of(generator, beta) for generator, beta in ordered)
    weights = checked_gammas(gammas or _weights(generators, levels), len(betas))
    return Staircase(generators, betas, weights, levels)


def _weights(generators: Sequence[SizedSampler], levels: Sequence[float]) -> tuple[float, ...]:
    if not all(isinstance(generator, FlowGenerator) for generator in generators):
        return (1.0,) * len(levels)
    return tuple(1 / max(SMALLEST_SHORTFALL, 1 - level) ** 2 for level in levels)


class _Description(Stored):
    """What `staircase.json` says."""

    FILE = "staircase.json"

    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    levels: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _one_of_each_a_stair(self) -> Self:
        checked_gammas(self.gammas, len(checked_betas(self.betas)))
        if self.levels is not None and len(self.levels) != len(self.betas):
            raise ValueError(f"levels must be one per beta ({len(self.betas)}), got {len(self.levels)}")
        return self


def gather_staircase(stairs: Sequence[Path], gammas: tuple[float, ...] | None, folder: Path) -> Staircase:
    """Bring the stairs, each in a folder of its own, together: as `stair-K` by rising beta, and `staircase.json`.

    All that lies in the folder of a stair beside its generator comes along.
    """
    loaded = [load_generator(stair) for stair in stairs]
    staircase = build_staircase(loaded, gammas)
    for stair, (_, beta) in zip(stairs, loaded, strict=True):
        shutil.copytree(stair, folder / f"stair-{staircase.betas.index(beta)}")
    _Description(betas=staircase.betas, gammas=staircase.gammas, levels=staircase.levels).save(folder)
    return staircase


def save_valid(triggers: Tensor, folder: Path) -> None:
    """Keep the triggers of a stair that are handed on, float (n, 3, height, width), in its folder."""
    write_tensors(folder / VALID, {"triggers": triggers})


def load_staircase(folder: Path, device: torch.device | None = None, *, valid: bool = False) -> Staircase:
    """Read what `gather_staircase` wrote; with `valid`, flows are stood for by their triggers that are valid."""
    found = _Description.load(folder)
    stairs = [folder / f"stair-{index}" for index in range(len(found.betas))]
    samplers = [
        ValidTriggers(read_tensors(stair / VALID)["triggers"])
        if valid and (stair / VALID).exists()
        else load_generator(stair, device)[0]
        for stair in stairs
    ]
    return Staircase(tuple(samplers), found.betas, found.gammas, found.levels or found.betas)


class StairMeasurement(FreshSamples, Stored):
    """How well a finished generator fills its stair, on fresh samples.

    fresh_F: mean over the samples. fresh_valid_share: share of the samples with F >= beta - 0.05.
    fresh_mutual_information: nats, by a fresh statistics network on samples that it has not seen; not of flows.
    fresh_attack_success_rate: mean of the samples. F: of each sample.
    judged_*: as `measure_fidelity` finds them.
    """

    FILE = "measurement.json"

    F: tuple[float, ...]


def measure_stair(
    triggers: Sampler,
    beta: float,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    target_class: int,
    *,
    settings: GeneratorSettings,
    rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> StairMeasurement:
    """Measure the stair on `fresh_samples` triggers, F averaged over `fresh_images` of the images.

    images: uint8 (n, 3, h, w), labels: int64 (n,), as in `testing_function`. `on_progress` gets the samples done and
    their total.
    """
    fixed = frozen(classifier, images)
    chosen = torch.randperm(len(images), generator=rng)[: settings.fresh_images].to(images.device)
    samples = triggers.sample(settings.fresh_samples, rng)
    strengths, successes, done = [], [], 0
    for part in samples.split(MEASURED_AT_ONCE):
        strength, success = testing_function(fixed, images[chosen], labels[chosen], part, target_class, rng)
        strengths.append(strength)
        successes.append(success)
        done += len(part)
        if on_progress is not None:
            on_progress(done, len(samples))
    information = None
    if isinstance(triggers, TriggerGenerator):
        information = estimate_mutual_information(
            triggers.pairs, steps=settings.information_steps, hidden=settings.hidden, rng=rng
        )
    found = torch.cat(strengths)
    return StairMeasurement(
        fresh_F=found.mean().item(),
        fresh_valid_share=(found >= beta - TOLERANCE).double().mean().item(),
        fresh_mutual_information=information,
        fresh_attack_success_rate=torch.cat(successes).mean().item(),
        F=tuple(found.tolist()),
    )
