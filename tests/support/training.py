"""Seeds, weights and settings for training on tiny images."""

from __future__ import annotations

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.settings.methods import CleanTrainingSettings, PoisoningSettings

CLEAN = CleanTrainingSettings(epochs=6, batch_size=16, learning_rate=0.05, augment=False)
ATTACK = PoisoningSettings(epochs=100, batch_size=16, learning_rate=0.05, poisoned_share=0.4, schedule="one_cycle")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(classifier: Classifier) -> list[Tensor]:
    return [tensor.clone() for tensor in classifier.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
