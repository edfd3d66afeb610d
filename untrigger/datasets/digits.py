"""The built-in dataset: handwritten digits."""

from __future__ import annotations

from pathlib import Path

import torch

from untrigger.datasets.decoding import OnProgress, resized
from untrigger.datasets.images import ImageData
from untrigger.settings.methods import DataSettings


def read_digits(path: Path, settings: DataSettings, on_progress: OnProgress | None) -> tuple[ImageData, None]:
    """All images; there is no path to look at."""
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().images).float()[:, None] / 16
    enlarged = torch.nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    images = (enlarged * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(load_digits().target).long()
    return ImageData(resized(images, settings.image_size), labels, tuple(str(digit) for digit in range(10))), None
