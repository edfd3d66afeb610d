"""Sinusoids that are added (SIG)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.settings.attacks import SinusoidalSettings


class Sinusoidal(Attack):
    """v(i, j) = delta * sin(2 pi j f / m) is added in every row i, to the columns j = 1 ... m.

    Source: Barni, Kallas, Tondi 2019, section 3.
    """

    no_patch = "the trigger is no patch: a sinusoid is added to the whole image"

    def __init__(self, settings: SinusoidalSettings, trigger: Tensor) -> None:
        self.delta, self.frequency = settings.delta, settings.frequency

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        width = images.shape[3]
        columns = torch.arange(1, width + 1, dtype=torch.float64)
        wave = self.delta * torch.sin(2 * math.pi * columns * self.frequency / width)
        return (images + wave.to(images)).clamp(0, 1)
