"""Patches that replace pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.settings.attacks import PatchSettings
from untrigger.triggers import stamp


class Patch(Attack):
    """A trigger, float (3, th, tw) in [0, 1], at a random place of each image, or in the lower right corner."""

    no_patch = ""

    def __init__(self, settings: PatchSettings, trigger: Tensor) -> None:
        self.trigger = trigger
        self.fixed = settings.place == "fixed"

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return stamp(images, self.trigger[None].to(images), self.positions(images, rng))

    def positions(self, images: Tensor, rng: torch.Generator) -> Tensor | torch.Generator:
        """What `triggers.stamp` takes for the places."""
        if not self.fixed:
            return rng
        corner = [extent - size for extent, size in zip(images.shape[2:], self.trigger.shape[1:], strict=True)]
        return torch.tensor(corner).expand(len(images), 2)


def patch(trigger: Tensor) -> Patch:
    """The attack of the paper: a trigger, float (3, th, tw) in [0, 1], at a random place of each image."""
    return Patch(PatchSettings(), trigger)
