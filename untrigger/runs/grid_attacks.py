"""TEMPORARY seam until the registry of attacks is merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.measurements import Rates
from untrigger.metrics import evaluate
from untrigger.poisoning import plant_backdoor
from untrigger.settings.grids import GridConfig
from untrigger.triggers import checkerboard, stamp


@dataclass(frozen=True)
class Attack:
    trigger: Tensor
    config: GridConfig
    is_patch: bool = True
    one_class: bool = True

    @property
    def told(self) -> dict[str, Any]:
        return {}

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return stamp(images, self.trigger[None], rng)

    def plant(self, classifier: Classifier, data: ImageData, *, rng: torch.Generator) -> None:
        plant_backdoor(
            classifier, data.images, data.labels, self.trigger, self.config.target_class, self.config.poisoning, rng=rng
        )

    def rates(self, classifier: Classifier, data: ImageData, rng: torch.Generator) -> Rates:
        return evaluate(classifier, data.images, data.labels, self.trigger, self.config.target_class, rng)


def find_attack(name: str, config: GridConfig) -> Attack:
    if name != "patch":
        raise UserError(f"unknown attack {name!r}")
    return Attack(checkerboard(), config)
