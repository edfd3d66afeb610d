"""What an attack is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Attack(ABC):
    """How images are made to carry the trigger, in training and in evaluation alike."""

    no_patch = "the trigger is no patch"
    """Why a search for patches looks for something else; "" where the trigger is one."""

    cross_ratio = 0.0
    """Images per poisoned one that are `disturbed` in training and keep their label."""

    @property
    def is_patch(self) -> bool:
        """Whether the trigger is a patch, as the searches assume."""
        return not self.no_patch

    @abstractmethod
    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Images, float (n, 3, h, w) in [0, 1], with the trigger: the same shape and range; the given ones stay."""

    def disturbed(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Images, as `stamp` takes them, with what is like the trigger and is none; needs a `cross_ratio` above 0."""
        return images
