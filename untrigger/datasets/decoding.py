"""From encoded pictures to one uint8 tensor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.pictures import read_picture

HELD_OUT = ("test", "validation", "valid", "val", "dev", "eval")
"""What the parts of a dataset are called that the classifier is not trained on."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Encoded:
    """Images not yet decoded: where each one stands (for messages), its bytes, its label."""

    places: list[str]
    contents: list[bytes | Path]
    labels: list[int]


def decoded_parts(
    training: Encoded, test: Encoded, classes: tuple[str, ...], size: int | None, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    both = Encoded(training.places + test.places, training.contents + test.contents, training.labels + test.labels)
    if not both.labels:
        raise UserError("the dataset holds no images")
    if max(both.labels) >= len(classes):
        place = both.places[both.labels.index(max(both.labels))]
        raise UserError(f"{place} has the label {max(both.labels)}, but the dataset names only {len(classes)} classes")
    images = _decode(both, size, on_progress)
    labels = torch.tensor(both.labels)
    cut = len(training.labels)
    first = ImageData(images[:cut], labels[:cut], classes)
    return first, ImageData(images[cut:], labels[cut:], classes) if test.labels else None


def _decode(encoded: Encoded, size: int | None, on_progress: OnProgress | None) -> Tensor:
    """All images as one uint8 tensor (n, 3, h, w); the threads overlap, since Pillow decodes without the GIL."""

    def decode(place: str, content: bytes | Path) -> np.ndarray:
        coloured = read_picture(content, place)
        return np.asarray(coloured if size is None else coloured.resize((size, size), Image.Resampling.BILINEAR))

    pixels: np.ndarray | None = None
    with ThreadPoolExecutor() as threads:
        for index, image in enumerate(threads.map(decode, encoded.places, encoded.contents)):
            if pixels is None:
                pixels = np.empty((len(encoded.labels), *image.shape), dtype=np.uint8)
            if image.shape != pixels.shape[1:]:
                raise UserError(
                    f"{encoded.places[index]} is {image.shape[1]}x{image.shape[0]} pixels, earlier images are "
                    f"{pixels.shape[2]}x{pixels.shape[1]}: bring all to one size with --data.image-size"
                )
            pixels[index] = image
            if on_progress is not None:
                on_progress(index + 1, len(encoded.labels))
    assert pixels is not None
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = (
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear").round().to(torch.uint8)
        for part in images.split(1000)
    )
    return torch.cat(list(resized))
