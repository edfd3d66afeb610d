"""Encoded pictures as pixels: upright, opaque and of 8 bits a channel, or refused with the reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from untrigger.artifacts import refuse_pointer
from untrigger.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
SCALED_OTHERWISE = ("I", "F")


def read_picture(content: Path | bytes, place: str) -> Image.Image:
    """The RGB picture in a file or in bytes, turned as its orientation tag says; `place` names it in messages.

    16 bits of grey are scaled to 8. Raises UserError when it cannot be read, when it has see-through pixels, whose
    colour nobody ever saw, or when its values have no scale.
    """
    try:
        with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as picture:
            upright = ImageOps.exif_transpose(picture)
            upright.load()
    except Exception as error:  # Pillow raises errors of many kinds over damaged or hostile bytes
        refuse_pointer(content, place)
        raise UserError(f"{place} does not hold a readable image: {str(error).split(' <')[0]}") from error
    if upright.mode in SCALED_OTHERWISE:
        raise UserError(f"{place} has 32 bits a pixel, whose white nobody knows: save it with 8 bits a channel")
    if upright.mode in SIXTEEN_BITS:
        upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
    seen_through = upright.mode in WITH_ALPHA or "transparency" in upright.info
    if seen_through and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
        raise UserError(f"{place} has see-through pixels: put it on a background and save it without transparency")
    return upright.convert("RGB")


def write_picture(path: Path, pixels: Tensor) -> None:
    """Write pixels, float (3, h, w) in [0, 1], as PNG with 8 bits a channel."""
    levels = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path, format="PNG")
