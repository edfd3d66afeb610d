"""Pictures that are mixed in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from untrigger.attacks.attack import Attack
from untrigger.settings.attacks import BlendedSettings


class Blended(Attack):
    """ratio * picture + (1 - ratio) * image; the picture, float (3, th, tw) in [0, 1], enlarged to the image's size.

    Source: Chen et al. 2017, the blended injection strategy.
    """

    no_patch = "the trigger is no patch: a whole picture is mixed in"

    def __init__(self, settings: BlendedSettings, picture: Tensor) -> None:
        self.picture, self.ratio = picture, settings.ratio

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        picture = functional.interpolate(self.picture[None], (height, width), mode="bilinear", antialias=True)
        return torch.lerp(images, picture.to(images).clamp(0, 1), self.ratio)
