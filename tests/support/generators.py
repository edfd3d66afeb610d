"""Generators of triggers that train in a moment."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.generators import TriggerGenerator, train_generators
from untrigger.settings.methods import GeneratorSettings
from untrigger.training import OnEpoch

GENERATOR = GeneratorSettings(
    hidden=64,
    epochs=120,
    batch_size=96,
    images_per_trigger=8,
    entropy_batch_size=128,
    learning_rate=3e-3,
    constraint="dual_ascent",
    alpha=0.05,
    multiplier_rate=1.0,
    fresh_samples=60,
    fresh_images=60,
    information_steps=150,
)


def train_generator(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    beta: float,
    target_class: int,
    size: tuple[int, int],
    settings: GeneratorSettings,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> TriggerGenerator:
    """One stair on its own."""

    def report(epoch: int, metrics: list[dict[str, float]]) -> None:
        if on_epoch is not None:
            on_epoch(epoch, metrics[0])

    return train_generators(
        classifier,
        images,
        labels,
        target_class,
        size,
        settings,
        betas=[beta],
        rngs=[rng],
        on_epoch=report,
    )[0]


def barely_trained(classifier: Classifier, data: ImageData, beta: float, size: tuple[int, int]) -> TriggerGenerator:
    """A generator after a single epoch."""
    settings = GENERATOR.model_copy(update={"epochs": 1})
    return train_generator(classifier, data.images, data.labels, beta, 0, size, settings, rng=seeded())
