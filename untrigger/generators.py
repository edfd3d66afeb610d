"""The generators of MESA: each learns, for one beta, the set of triggers with F >= beta, at high entropy."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from untrigger.artifacts import read_json, read_tensors, write_json, write_tensors
from untrigger.classifiers import Classifier, frozen
from untrigger.errors import UserError
from untrigger.initialisation import initialise
from untrigger.mutual_information import (
    ADAM_BETAS,
    LEAK,
    DebiasedObjective,
    StatisticsNetwork,
    donsker_varadhan,
)
from untrigger.settings import GeneratorSettings
from untrigger.training import OnEpoch
from untrigger.triggers import check_fits, stamp

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

    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise z, float (count, noise_dimension): standard normal, or uniform in [-1, 1]."""
        shape = (count, self.settings.noise_dimension)
        if self.settings.noise == "uniform":
            noise = torch.rand(shape, generator=generator) * 2 - 1
        else:
            noise = torch.randn(shape, generator=generator)
        return noise.to(self.out.weight.device)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Fresh triggers, float (count, 3, height, width) in [0, 1]; a TriggerSource."""
        return self(self.draw_noise(count, generator))

    @torch.no_grad()
    def pairs(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh noise and its triggers, flattened: what the mutual information is measured on; a PairSource."""
        z = self.draw_noise(count, generator)
        return z, self(z).flatten(1)


def train_generator(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    beta: float,
    target_class: int,
    size: tuple[int, int],
    settings: GeneratorSettings,
    *,
    generator: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> TriggerGenerator:
    """Train the generator of the stair `beta`: maximise its entropy while F(G(z)) >= beta.

    images: uint8 (n, 3, h, w), labels: int64 (n,), the defender's clean data. F of each trigger in a step is averaged
    over `settings.images_per_trigger` images; the hinge max(0, beta - F) is taken per trigger. The loss is
    hinge / alpha - I, which is equation 4 of the paper divided by alpha; I is the bound of the statistics network.

    With `dual_ascent` the loss has a further term -multiplier * F. The multiplier rises while fewer than
    `valid_share` of the triggers have F >= beta - 0.05, and falls, below zero if need be, while more have. It makes
    high stairs valid, and leads low ones down to their edge, where most of the set {x : F(x) >= beta} lies: the
    estimate of the entropy alone hardly feels that volume and stays where the search began, at F near 1.

    Metrics per epoch: `F` and `valid_share` of the triggers in its steps, `hinge`, `mutual_information` (nats),
    `attack_success_rate` of the triggers, `multiplier`. Returns the generator in evaluation mode.
    """
    check_fits(size, images)
    if len(images) < settings.batch_size:
        raise UserError(
            f"generator.batch_size {settings.batch_size} is larger than the defender's {len(images)} images"
        )
    stair = _StairTraining(frozen(classifier), beta, target_class, size, settings, generator, images.device)
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        whole = len(images) - len(images) % settings.batch_size
        batches = order[:whole].split(settings.batch_size)
        steps = [stair.step(images[chosen].float() / 255, labels[chosen]) for chosen in batches]
        if on_epoch is not None:
            means = torch.stack(steps).mean(0).tolist()
            on_epoch(epoch, dict(zip(_StairTraining.METRICS, means, strict=True)))
    return stair.finished()


class _StairTraining:
    """One generator, its statistics network, their optimisers and the multiplier."""

    METRICS = ("F", "valid_share", "hinge", "mutual_information", "attack_success_rate", "multiplier")

    def __init__(
        self,
        fixed: Classifier,
        beta: float,
        target_class: int,
        size: tuple[int, int],
        settings: GeneratorSettings,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.fixed, self.beta, self.target_class, self.settings = fixed, beta, target_class, settings
        self.random = generator
        self.triggers = TriggerGenerator(settings, size)
        initialise(self.triggers, generator)
        self.triggers.to(device).train()
        pixels = 3 * math.prod(size)
        self.statistics = StatisticsNetwork(settings.noise_dimension, pixels, settings.hidden, generator).to(device)
        rate = settings.learning_rate
        self.generator_optimiser = torch.optim.Adam(self.triggers.parameters(), lr=rate, betas=ADAM_BETAS)
        self.statistics_optimiser = torch.optim.Adam(self.statistics.parameters(), lr=rate, betas=ADAM_BETAS)
        self.objective = DebiasedObjective(settings.moving_average_rate)
        self.multiplier = torch.zeros((), device=device)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of the generator and one of the statistics network; returns METRICS as one tensor."""
        tried = len(images) // self.settings.images_per_trigger
        z = self.triggers.draw_noise(max(tried, self.settings.entropy_batch_size), self.random)
        triggers = self.triggers(z)
        strengths, success = self._testing_function(images, labels, triggers[:tried])
        hinge = (self.beta - strengths).clamp_min(0).mean()
        x = triggers.flatten(1)
        information = donsker_varadhan(*self.statistics.scores(z, x))
        _descend(
            self.generator_optimiser, hinge / self.settings.alpha - self.multiplier * strengths.mean() - information
        )
        _descend(self.statistics_optimiser, -self.objective(*self.statistics.scores(z, x.detach())))

        valid = (strengths >= self.beta - TOLERANCE).float().mean()
        if self.settings.constraint == "dual_ascent":
            self._adapt_multiplier(valid)
        return torch.stack([strengths.mean(), valid, hinge, information, success, self.multiplier]).detach()

    def _adapt_multiplier(self, valid: Tensor) -> None:
        settings = self.settings
        # A deficit counts no more than the largest surplus there can be: else the first steps, without any valid
        # sample, would outweigh the rest of the training.
        missing = (settings.valid_share - valid).clamp(max=1 - settings.valid_share)
        # The hinge pulls samples below beta up with the weight 1 / alpha; the multiplier must not win against it.
        lowest = -0.5 / settings.alpha
        self.multiplier = (self.multiplier + settings.multiplier_rate * missing).clamp(min=lowest)

    def _testing_function(self, images: Tensor, labels: Tensor, triggers: Tensor) -> tuple[Tensor, Tensor]:
        """F of each trigger over its own share of `images`, and the attack success rate of them all."""
        repeated = triggers.repeat_interleave(self.settings.images_per_trigger, 0)
        noise = torch.randn(repeated.shape, generator=self.random).to(repeated.device)
        logits = self.fixed(stamp(images, repeated + self.settings.trigger_noise * noise, self.random))
        strengths = logits.softmax(1)[:, self.target_class].view(len(triggers), -1).mean(1)
        others = (labels != self.target_class).float()
        sent = (logits.argmax(1) == self.target_class).float()
        return strengths, (sent * others).sum() / others.sum().clamp_min(1)

    def finished(self) -> TriggerGenerator:
        """The generator in evaluation mode, its batch norm set to the statistics of its final weights."""
        for norm in self.triggers.norms:
            assert isinstance(norm, nn.BatchNorm1d)
            norm.reset_running_stats()
            norm.momentum = None
        with torch.no_grad():
            self.triggers(self.triggers.draw_noise(NORM_SAMPLES, self.random))
        return self.triggers.eval()


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down `loss`, gradients reaching the optimiser's own parameters only."""
    parameters = optimiser.param_groups[0]["params"]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimiser.step()


def save_generator(generator: TriggerGenerator, beta: float, folder: Path) -> None:
    """Write `generator.safetensors` and `generator.json` into `folder`."""
    write_tensors(folder / "generator.safetensors", generator.state_dict())
    write_json(
        folder / "generator.json",
        {"beta": beta, "size": list(generator.size), "settings": generator.settings.model_dump()},
    )


def load_generator(folder: Path, device: torch.device | None = None) -> tuple[TriggerGenerator, float]:
    """Read what `save_generator` wrote: the generator in evaluation mode, and its beta."""
    description = read_json(folder / "generator.json")
    height, width = description["size"]
    generator = TriggerGenerator(GeneratorSettings.of(description["settings"]), (height, width))
    try:
        generator.load_state_dict(read_tensors(folder / "generator.safetensors"), strict=True)
    except RuntimeError as error:
        raise UserError(f"{folder} does not hold such a generator: {' '.join(str(error).split())}") from error
    return generator.to(device or torch.device("cpu")).eval(), description["beta"]
