"""Images of a dataset as one uint8 tensor, and the three parts that they are split into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from untrigger.artifacts import read_json, read_tensors, write_json, write_tensors
from untrigger.errors import UserError
from untrigger.settings.base import Stored
from untrigger.settings.methods import SearchImages


@dataclass(frozen=True)
class ImageData:
    """Images, uint8 (n, 3, h, w), their labels, int64 (n,), and the names of the classes."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageData:
        return ImageData(self.images.to(device), self.labels.to(device), self.class_names)

    def subset(self, chosen: Sequence[int] | np.ndarray) -> ImageData:
        index = torch.as_tensor(chosen)
        return ImageData(self.images[index], self.labels[index], self.class_names)

    def for_search(self, target_class: int, search_images: SearchImages) -> ImageData:
        """Those over which F is averaged: of other classes than the target's, or `all`.

        F over images that belong to the target class says little of a trigger, since they go there without any. The
        paper (section 4.1) takes all. Raises UserError when none is left.
        """
        if search_images == "all":
            return self
        others = self.labels != target_class
        if not bool(others.any()):
            raise UserError(f"every image belongs to the target class {target_class}: F has nothing to be measured on")
        return ImageData(self.images[others], self.labels[others], self.class_names)


@dataclass(frozen=True)
class Split:
    """The three parts that no stage may mix: the attacker trains on one, the defender has one, one evaluates."""

    training: ImageData
    defender: ImageData
    evaluation: ImageData


class DataOrigin(Stored):
    """What stands for the content of the dataset that images come from."""

    FILE = "dataset.json"

    identity: str


def save_images(data: ImageData, folder: Path) -> None:
    """Write `images.safetensors` and `images.json` into `folder`."""
    write_tensors(folder / "images.safetensors", {"images": data.images, "labels": data.labels})
    write_json(folder / "images.json", {"class_names": list(data.class_names), "count": len(data)})


def load_images(folder: Path) -> ImageData:
    """Read what `save_images` wrote."""
    description = read_json(folder / "images.json")
    tensors = read_tensors(folder / "images.safetensors")
    return ImageData(tensors["images"], tensors["labels"], tuple(description["class_names"]))
