"""MESA's staircase: the ensemble of generators that stands for the whole distribution of triggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from untrigger.classifiers import Classifier, frozen
from untrigger.errors import UserError
from untrigger.generators import TOLERANCE, TriggerGenerator, load_generator, save_generator
from untrigger.measurements import FreshSamples
from untrigger.metrics import testing_function
from untrigger.mutual_information import estimate_mutual_information
from untrigger.settings.base import Stored
from untrigger.settings.stairs import checked_betas, checked_gammas

MEASURED_AT_ONCE = 100


@dataclass(frozen=True)
class Staircase:
    """Generators in the order of their betas, and the weights gamma with which samples are drawn from them."""

    generators: tuple[TriggerGenerator, ...]
    betas: tuple[float, ...]
    gammas: tuple[float, ...]

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

    def generator_of(self, beta: float) -> TriggerGenerator:
        """The generator of the stair `beta`; UserError when there is none."""
        if beta not in self.betas:
            raise UserError(f"the staircase has no stair {beta}, only {', '.join(f'{b}' for b in self.betas)}")
        return self.generators[self.betas.index(beta)]


def build_staircase(
    stairs: Sequence[tuple[TriggerGenerator, float]], gammas: tuple[float, ...] | None = None
) -> Staircase:
    """The staircase of (generator, beta) pairs in any order; equal weights when `gammas`, by rising beta, is None."""
    ordered = sorted(stairs, key=lambda stair: stair[1])
    betas = checked_betas(tuple(beta for _, beta in ordered))
    weights = checked_gammas(gammas or (1.0,) * len(betas), len(betas))
    return Staircase(tuple(generator for generator, _ in ordered), betas, weights)


class _Description(Stored):
    """What `staircase.json` says."""

    FILE = "staircase.json"

    betas: tuple[float, ...]
    gammas: tuple[float, ...]


def save_staircase(staircase: Staircase, folder: Path) -> None:
    """Write `staircase.json` and one folder `stair-K` per generator into `folder`."""
    for index, (generator, beta) in enumerate(zip(staircase.generators, staircase.betas, strict=True)):
        save_generator(generator, beta, folder / f"stair-{index}")
    _Description(betas=staircase.betas, gammas=staircase.gammas).save(folder)


def load_staircase(folder: Path, device: torch.device | None = None) -> Staircase:
    """Read what `save_staircase` wrote."""
    found = _Description.load(folder)
    generators = [load_generator(folder / f"stair-{index}", device)[0] for index in range(len(found.betas))]
    return Staircase(tuple(generators), found.betas, found.gammas)


class StairMeasurement(FreshSamples, Stored):
    """How well a finished generator fills its stair, on fresh samples.

    fresh_F: mean over the samples. fresh_valid_share: share of the samples with F >= beta - 0.05.
    fresh_mutual_information: nats, by a fresh statistics network on samples that it has not seen.
    fresh_attack_success_rate: mean of the samples. F: of each sample.
    """

    FILE = "measurement.json"

    F: tuple[float, ...]


def measure_stair(
    triggers: TriggerGenerator,
    beta: float,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    target_class: int,
    *,
    rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> StairMeasurement:
    """Measure the stair on `fresh_samples` triggers, F averaged over `fresh_images` of the images.

    images: uint8 (n, 3, h, w), labels: int64 (n,), the defender's clean data. `on_progress` gets the samples done and
    their total.
    """
    settings = triggers.settings
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
