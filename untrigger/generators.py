"""The generators of MESA: each learns, for one beta, the set of triggers with F >= beta, at high entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from untrigger.artifacts import read_json, read_tensors, write_tensors
from untrigger.classifiers import Classifier, frozen
from untrigger.errors import UserError
from untrigger.flows import FlowGenerator, load_flow, save_flow
from untrigger.mutual_information import (
    ADAM_BETAS,
    LEAK,
    DebiasedObjective,
    StatisticsNetwork,
    donsker_varadhan,
)
from untrigger.networks.initialisation import initialise
from untrigger.networks.stacking import StackedModules
from untrigger.seeding import moved
from untrigger.settings.base import Stored
from untrigger.settings.methods import GeneratorSettings
from untrigger.snapshots import UNKEPT, Snapshot, State, load_optimiser, rng_states, set_rng_states
from untrigger.triggers import check_fits, draw_positions

TOLERANCE = 0.05
"""A sample is valid on the stair beta when its F is at least beta - TOLERANCE."""

NORM_SAMPLES = 8192


class TriggerGenerator(nn.Module):
    """Noise z, float (n, noise_dimension), to triggers, float (n, 3, height, width) in [0, 1].

    Four linear layers with batch norm and LeakyReLU between them and a sigmoid at the end; a quarter of z enters each
    layer. Source: section 5 of the paper and the authors' code.
    """

    def __init__(self, settings: GeneratorSettings, size: tuple[int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.size = size
        part, hidden = settings.noise_dimension // 4, settings.hidden
        self.layers = nn.ModuleList(
            [nn.Linear(part, hidden), nn.Linear(hidden + part, hidden), nn.Linear(hidden + part, hidden)]
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in self.layers)
        self.out = nn.Linear(hidden + part, 3 * math.prod(size))
        self.activation = nn.LeakyReLU(LEAK)

    def forward(self, z: Tensor) -> Tensor:
        parts = z.chunk(4, dim=1)
        features = z.new_empty(len(z), 0)
        for layer, norm, part in zip(self.layers, self.norms, parts, strict=False):
            features = self.activation(norm(layer(torch.cat([features, part], 1))))
        pixels = torch.sigmoid(self.out(torch.cat([features, parts[3]], 1)))
        return pixels.view(len(z), 3, *self.size)

    def draw_noise(self, count: int, rng: torch.Generator) -> Tensor:
        """Noise z as `draw_noise`, on the generator's device."""
        return moved(draw_noise(self.settings, count, rng), self.out.weight.device)

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Fresh triggers, float (count, 3, height, width) in [0, 1]; a TriggerSource."""
        return self(self.draw_noise(count, rng))

    @torch.no_grad()
    def pairs(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh noise and its triggers, flattened: what the mutual information is measured on; a PairSource."""
        z = self.draw_noise(count, rng)
        return z, self(z).flatten(1)


AnyGenerator = TriggerGenerator | FlowGenerator
"""A generator of any family: it draws triggers of its `size` by `sample`."""


def draw_noise(settings: GeneratorSettings, count: int, rng: torch.Generator) -> Tensor:
    """Noise z, float (count, noise_dimension): standard normal, or uniform in [0, 1]; on the CPU."""
    shape = (count, settings.noise_dimension)
    if settings.noise == "uniform":
        return torch.rand(shape, generator=rng)
    return torch.randn(shape, generator=rng)


class StairCurves(Stored):
    """The training of one stair: the metrics of each epoch, by their names in `train_generators`.

    Of a flow: those of `train_flows` at some of its steps, and `step`.
    """

    FILE = "curves.json"

    generator: tuple[dict[str, float], ...]


OnStairEpoch = Callable[[int, list[dict[str, float]]], None]
"""Called after each epoch with its number, from 1, and the metrics of each stair."""


def train_generators(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    target_class: int,
    size: tuple[int, int],
    settings: GeneratorSettings,
    *,
    betas: Sequence[float],
    rngs: Sequence[torch.Generator],
    on_epoch: OnStairEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> list[TriggerGenerator]:
    """Train one generator per stair in `betas`: maximise its entropy while F(G(z)) >= beta.

    images: uint8 (n, 3, h, w), labels: int64 (n,), those of the defender over which F is averaged
    (`ImageData.for_search`). All stairs share each pass through the
    classifier, but nothing else: each has its own source of randomness in `rngs` and draws the same numbers
    whichever others train beside it; only rounding differs, which long training amplifies.

    F of each trigger in a step is averaged over `settings.images_per_trigger` images. The loss is hinge / alpha - I,
    which is equation 4 of the paper divided by alpha; I is the bound of the statistics network. With `fixed_alpha` the
    hinge is the mean of max(0, beta - p) over the step's images, p the probability of the target class on one of them,
    as in the authors' code; with `dual_ascent` it is that of max(0, beta - F) over the triggers.

    With `dual_ascent` the loss has a further term -multiplier * F. The multiplier rises while fewer than
    `valid_share` of the triggers have F >= beta - 0.05, and falls, below zero if need be, while more have. It makes
    high stairs valid, and leads low ones down to their edge, where most of the set {x : F(x) >= beta} lies: the
    estimate of the entropy alone hardly feels that volume and stays where the search began, at F near 1.

    Metrics per epoch: `F` and `valid_share` of the triggers in its steps, `hinge`, `mutual_information` (nats),
    `attack_success_rate` of the triggers, `multiplier`. Returns the generators in evaluation mode. Raises UserError
    when one of these is no longer finite.
    """
    check_fits(size, images)
    if len(images) < settings.batch_size:
        raise UserError(
            f"generator.batch_size {settings.batch_size} is larger than the defender's {len(images)} images"
        )
    stairs = _StairTraining(frozen(classifier, images), target_class, size, settings, betas=betas, rngs=rngs)
    for epoch in range(stairs.restore(snapshot.restored()), settings.epochs + 1):
        orders = [torch.randperm(len(images), generator=rng) for rng in rngs]
        whole = len(images) - len(images) % settings.batch_size
        batches = torch.stack(orders)[:, :whole].to(images.device).split(settings.batch_size, 1)
        steps = [stairs.step(images[chosen.flatten()], labels[chosen]) for chosen in batches]
        means = torch.stack(steps).mean(0)
        if not bool(means.isfinite().all()):
            raise UserError(f"generator training diverged in epoch {epoch}: lower generator.learning_rate")
        if on_epoch is not None:
            on_epoch(epoch, [dict(zip(_StairTraining.METRICS, values, strict=True)) for values in means.tolist()])
        snapshot.offer(partial(stairs.state, epoch), last=epoch == settings.epochs)
    return stairs.finished()


class _StairTraining:
    """Generators, statistics networks and multipliers of several stairs, their weights stacked; and the optimisers."""

    METRICS = ("F", "valid_share", "hinge", "mutual_information", "attack_success_rate", "multiplier")

    def __init__(
        self,
        fixed: Classifier,
        target_class: int,
        size: tuple[int, int],
        settings: GeneratorSettings,
        *,
        betas: Sequence[float],
        rngs: Sequence[torch.Generator],
    ) -> None:
        device = fixed.mean.device
        self.fixed, self.target_class, self.size, self.settings = fixed, target_class, size, settings
        self.betas = torch.tensor(betas, device=device)[:, None]
        self.rngs = list(rngs)
        pixels = 3 * math.prod(size)
        triggers, statistics = [], []
        for rng in self.rngs:
            triggers.append(TriggerGenerator(settings, size))
            initialise(triggers[-1], rng)
            statistics.append(StatisticsNetwork(settings.noise_dimension, pixels, settings.hidden, rng))
        precision = fixed.compute_type() if settings.precision == "auto" else torch.float32
        self.triggers = StackedModules(triggers, device, precision)
        self.statistics = StackedModules(statistics, device, precision)
        rate = settings.learning_rate
        self.generator_optimiser, self.statistics_optimiser = (
            torch.optim.Adam(stack.parameters(), lr=rate, betas=ADAM_BETAS, fused=True)
            for stack in (self.triggers, self.statistics)
        )
        self.objective = DebiasedObjective(settings.moving_average_rate)
        self.multipliers = torch.zeros(len(betas), device=device)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of the generators and one of the statistics networks; returns METRICS, (stairs, 6).

        images: (stairs * n, 3, h, w), labels: (stairs, n).
        """
        settings = self.settings
        tried = labels.shape[1] // settings.images_per_trigger
        z = self._noise(max(tried, settings.entropy_batch_size))
        (triggers,) = self.triggers(z)
        probabilities, success = self._on_images(images, labels, triggers[:, :tried])
        strengths = probabilities.mean(2)
        mean = strengths.mean(1)
        judged = strengths if settings.constraint == "dual_ascent" else probabilities.flatten(1)
        hinge = (self.betas - judged).clamp_min(0).mean(1)
        joint, marginal = self.statistics(z, triggers.flatten(2))
        information = donsker_varadhan(joint, marginal)

        # Both take their gradient from one pass; neither reaches into the other's weights.
        bound = self.objective(joint, marginal)
        losses = hinge / settings.alpha - self.multipliers * mean - information
        self.statistics.set_gradients(-bound.sum(), retain_graph=True)
        self.triggers.set_gradients(losses.sum())
        self.statistics_optimiser.step()
        self.generator_optimiser.step()

        valid = (strengths >= self.betas - TOLERANCE).float().mean(1)
        if settings.constraint == "dual_ascent":
            self._adapt_multipliers(valid)
        return torch.stack([mean, valid, hinge, information, success, self.multipliers], 1).detach()

    def _noise(self, count: int) -> Tensor:
        """Noise z, float (stairs, count, noise_dimension)."""
        noise = torch.stack([draw_noise(self.settings, count, rng) for rng in self.rngs])
        return moved(noise, self.betas.device)

    def _adapt_multipliers(self, valid: Tensor) -> None:
        settings = self.settings
        # A deficit counts no more than the largest surplus there can be: else the first steps, without any valid
        # sample, would outweigh the rest of the training.
        missing = (settings.valid_share - valid).clamp(max=1 - settings.valid_share)
        # The hinge pulls samples below beta up with the weight 1 / alpha; the multiplier must not win against it.
        lowest = -0.5 / settings.alpha
        self.multipliers = (self.multipliers + settings.multiplier_rate * missing).clamp(min=lowest)

    def _on_images(self, images: Tensor, labels: Tensor, triggers: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of the target class, (stairs, tried, images_per_trigger), and the success rate per stair."""
        stairs, tried = triggers.shape[:2]
        repeated = triggers.repeat_interleave(self.settings.images_per_trigger, 1)
        noise = torch.stack([torch.randn(repeated.shape[1:], generator=rng) for rng in self.rngs])
        noisy = (repeated + self.settings.trigger_noise * moved(noise, repeated.device)).flatten(0, 1)
        positions = torch.cat([draw_positions(labels.shape[1], images, self.size, rng) for rng in self.rngs])
        logits = self.fixed.classify_stamped(images, noisy, positions)
        probabilities = logits.softmax(1)[:, self.target_class].view(stairs, tried, -1)
        others = (labels != self.target_class).float()
        sent = (logits.argmax(1).view(stairs, -1) == self.target_class).float()
        return probabilities, (sent * others).sum(1) / others.sum(1).clamp_min(1)

    def state(self, epoch: int) -> State:
        """All that the epochs after `epoch` depend on."""
        return {
            "epoch": epoch,
            "triggers": self.triggers.state_dict(),
            "statistics": self.statistics.state_dict(),
            "optimisers": [self.generator_optimiser.state_dict(), self.statistics_optimiser.state_dict()],
            "average": self.objective.log_average,
            "multipliers": self.multipliers,
            "rngs": rng_states(self.rngs),
        }

    def restore(self, state: State | None) -> int:
        """Back to what `state` gave; the epoch that comes next, the first one without a state."""
        if state is None:
            return 1
        self.triggers.load_state_dict(state["triggers"])
        self.statistics.load_state_dict(state["statistics"])
        for optimiser, kept in zip(
            (self.generator_optimiser, self.statistics_optimiser), state["optimisers"], strict=True
        ):
            load_optimiser(optimiser, kept)
        self.objective.log_average = state["average"].to(self.betas.device)
        self.multipliers = state["multipliers"].to(self.betas.device)
        set_rng_states(self.rngs, state["rngs"])
        return int(state["epoch"]) + 1

    def finished(self) -> list[TriggerGenerator]:
        """The generators in evaluation mode, batch norm set to the statistics of their final weights."""
        finished = []
        for state, rng in zip(self.triggers.states(), self.rngs, strict=True):
            generator = TriggerGenerator(self.settings, self.size).to(self.betas.device)
            generator.load_state_dict(state)
            for norm in generator.norms:
                assert isinstance(norm, nn.BatchNorm1d)
                norm.reset_running_stats()
                norm.momentum = None
            with torch.no_grad():
                generator(generator.draw_noise(NORM_SAMPLES, rng))
            finished.append(generator.eval())
        return finished


class _Description(Stored):
    """What `generator.json` says; early versions knew no other family."""

    FILE = "generator.json"

    family: Literal["mine"] = "mine"
    beta: float
    size: tuple[PositiveInt, PositiveInt]
    settings: GeneratorSettings


def level_of(generator: object, beta: float) -> float:
    """The level of F that a stair stands for: its beta, or what the training of a top stair found."""
    return generator.level if isinstance(generator, FlowGenerator) and generator.level is not None else beta


def save_generator(generator: AnyGenerator, beta: float, folder: Path) -> None:
    """Write `generator.safetensors` and `generator.json` into `folder`."""
    if isinstance(generator, FlowGenerator):
        save_flow(generator, beta, folder)
        return
    write_tensors(folder / "generator.safetensors", generator.state_dict())
    _Description(beta=beta, size=generator.size, settings=generator.settings).save(folder)


def load_generator(folder: Path, device: torch.device | None = None) -> tuple[AnyGenerator, float]:
    """Read what `save_generator` wrote: the generator in evaluation mode, and its beta."""
    if read_json(folder / _Description.FILE).get("family") == "flow":
        return load_flow(folder, device)
    description = _Description.load(folder)
    generator = TriggerGenerator(description.settings, description.size)
    try:
        generator.load_state_dict(read_tensors(folder / "generator.safetensors"), strict=True)
    except RuntimeError as error:
        raise UserError(f"{folder} does not hold such a generator: {' '.join(str(error).split())}") from error
    return generator.to(device or torch.device("cpu")).eval(), description.beta
