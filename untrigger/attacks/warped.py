"""Smooth warps (WaNet)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from untrigger.attacks.attack import Attack
from untrigger.seeding import derived_rng, moved
from untrigger.settings.attacks import WarpedSettings


class Warped(Attack):
    """Pixels are fetched from places shifted by one smooth field; in the noise mode, by a random one on top of it.

    The shifts at k x k control points are uniform in [-1, 1], divided by their mean size and multiplied by the
    strength s; between the points they are bicubic. Places outside the image are drawn to its border. Source: Nguyen
    and Tran 2021, section 3.2 (field) and 3.3 (noise mode).
    """

    no_patch = "the trigger is no patch: the whole image is warped"

    def __init__(self, settings: WarpedSettings, trigger: Tensor) -> None:
        self.cross_ratio = settings.cross_ratio
        points = settings.control_points
        drawn = 2 * torch.rand((1, 2, points, points), generator=derived_rng(settings.field_seed, "warp")) - 1
        self.control_points = settings.strength * drawn / drawn.abs().mean()

    def shifts(self, height: int, width: int) -> Tensor:
        """The shift of each pixel along columns and rows, float (1, 2, h, w), in pixels."""
        return functional.interpolate(self.control_points, (height, width), mode="bicubic", align_corners=True)

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return _warp(images, self.shifts(*images.shape[2:]).to(images))

    def disturbed(self, images: Tensor, rng: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        noise = 2 * torch.rand((len(images), 2, height, width), generator=rng) - 1
        return _warp(images, self.shifts(height, width).to(images) + moved(noise, images.device))


def _warp(images: Tensor, shifts: Tensor) -> Tensor:
    """Images, float (n, 3, h, w), bilinear at places shifted by so many pixels, (n or 1, 2, h, w)."""
    height, width = images.shape[2:]
    columns = torch.arange(width, device=images.device) + shifts[:, 0]
    rows = torch.arange(height, device=images.device)[:, None] + shifts[:, 1]
    # grid_sample counts from -1 to 1; an image of one pixel has nowhere to go.
    places = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], 3)
    places = places.expand(len(images), -1, -1, -1)
    warped = functional.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=True)
    return warped.clamp(0, 1)
