"""Triggers, float (k, 3, th, tw) in [0, 1], and stamping them onto images, float (n, 3, h, w)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.errors import UserError
from untrigger.pictures import read_picture
from untrigger.seeding import moved
from untrigger.settings.trigger_names import BINARY_PATTERNS
from untrigger.storage.sources import Source

TRIGGER_TENSOR = "trigger"
"""The name of the tensor in a trigger's .safetensors file."""

TriggerSource = Callable[[int, torch.Generator], Tensor]
"""Draws `count` triggers, float (count, 3, th, tw) in [0, 1], anew at each call."""


class Sampler(Protocol):
    """Whatever draws triggers: `sample` is a TriggerSource."""

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Fresh triggers, float (count, 3, th, tw) in [0, 1]."""


def binary_patterns() -> Tensor:
    """The 51 black-and-white 3x3 patterns, float (51, 3, 3, 3): one per class under rotation, reflection, inversion.

    Each class is stood for by its smallest member, reading the pixels row by row as a binary number; the classes come
    in that order. Source: section 5 of the paper.
    """
    bits = (torch.arange(512)[:, None] >> torch.arange(8, -1, -1)) & 1
    patterns = bits.reshape(512, 3, 3)
    turned = [torch.rot90(patterns, turns, (1, 2)) for turns in range(4)]
    symmetric = torch.stack([*turned, *(pattern.flip(2) for pattern in turned)])
    relatives = torch.cat([symmetric, 1 - symmetric]).reshape(16, 512, 9)
    codes = (relatives << torch.arange(8, -1, -1)).sum(2)
    smallest = codes.min(0).values
    chosen = patterns[smallest == torch.arange(512)].float()
    return chosen[:, None].expand(-1, 3, -1, -1).contiguous()


def checkerboard() -> Tensor:
    """The 3x3 checkerboard with white corners, float (3, 3, 3)."""
    return ((torch.arange(9) + 1) % 2).reshape(1, 3, 3).float().expand(3, -1, -1).contiguous()


def colour_trigger(seed: int) -> Tensor:
    """A 3x3 patch uniform in [0, 1], float (3, 3, 3)."""
    return torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed))


def read_trigger(name: str) -> Tensor:
    """The trigger called `name`, float (3, th, tw) in [0, 1].

    `name`: binary:K with K from 0 to 50, checkerboard, colour:SEED, a path ending in .png, or in .safetensors with
    one tensor `trigger`, float (3, th, tw) in [0, 1], or the address of such a file in a store. Raises UserError when
    it is none of these.
    """
    kind, _, rest = name.partition(":")
    if name == "checkerboard":
        return checkerboard()
    if kind in ("binary", "colour") and rest.isdecimal():
        if kind == "colour":
            return colour_trigger(int(rest))
        if int(rest) < BINARY_PATTERNS:
            return binary_patterns()[int(rest)]
        raise UserError(f"binary:K needs K from 0 to {BINARY_PATTERNS - 1}, got {rest}")
    path = Source.of("trigger", name).local()
    if path is not None:
        return _trigger_from_png(path) if path.suffix.lower() == ".png" else _trigger_from_tensor(path)
    raise UserError(
        f"unknown trigger {name!r}: give binary:K, checkerboard, colour:SEED, a .png or .safetensors file, or the "
        "address of one in a store"
    )


def _trigger_from_png(path: Path) -> Tensor:
    if not path.is_file():
        raise UserError(f"the trigger file {path} does not exist")
    pixels = np.array(read_picture(path, f"the trigger file {path}"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _trigger_from_tensor(path: Path) -> Tensor:
    tensors = read_tensors(path)
    if TRIGGER_TENSOR not in tensors:
        raise UserError(
            f"{path} holds no tensor named {TRIGGER_TENSOR}, only {', '.join(sorted(tensors)) or 'nothing'}"
        )
    trigger = tensors[TRIGGER_TENSOR].float()
    if trigger.ndim != 3 or trigger.shape[0] != 3:
        raise UserError(f"the trigger in {path} must have the shape (3, height, width), got {tuple(trigger.shape)}")
    if not bool(((trigger >= 0) & (trigger <= 1)).all()):
        raise UserError(f"the trigger in {path} must lie in [0, 1]")
    return trigger


def save_triggers(triggers: Tensor, folder: Path) -> None:
    """Write triggers, float (k, 3, th, tw), as `triggers.safetensors` into `folder`."""
    write_tensors(folder / "triggers.safetensors", {"triggers": triggers})


def load_triggers(folder: Path) -> Tensor:
    """Read what `save_triggers` wrote."""
    return read_tensors(folder / "triggers.safetensors")["triggers"]


def check_fits(size: Sequence[int], images: Tensor) -> None:
    """UserError when a patch of `size`, its height and width, is larger than the images (..., h, w)."""
    height, width = size
    if height > images.shape[-2] or width > images.shape[-1]:
        raise UserError(
            f"a trigger of {height}x{width} pixels is larger than the images of "
            f"{images.shape[-2]}x{images.shape[-1]}: use a smaller trigger or a larger data.image_size"
        )


def draw_positions(count: int, images: Tensor, size: Sequence[int], rng: torch.Generator) -> Tensor:
    """Positions for `count` patches of `size`, height and width, on images (..., h, w): int64 (count, 2) on the CPU.

    Row and column of the upper left corner, uniform over all positions where the patch fits, drawn from `rng`.
    """
    rows = torch.randint(images.shape[-2] - size[0] + 1, (count,), generator=rng)
    columns = torch.randint(images.shape[-1] - size[1] + 1, (count,), generator=rng)
    return torch.stack([rows, columns], 1)


def stamp(images: Tensor, triggers: Tensor, positions: Tensor | torch.Generator) -> Tensor:
    """Stamp a trigger on every image, each at its own position; differentiable in `triggers`.

    images: float (n, 3, h, w); left as they are. triggers: float (n, 3, th, tw), or (1, 3, th, tw) for all, in the
    values of the images (in [0, 1], or normalised). positions: (n, 2) from `draw_positions`, or the randomness to
    draw them with. Returns float (n, 3, h, w).
    """
    n = len(images)
    patch_height, patch_width = triggers.shape[-2:]
    if isinstance(positions, torch.Generator):
        positions = draw_positions(n, images, (patch_height, patch_width), positions)
    tops, lefts = moved(positions, images.device).unbind(1)
    rows = (tops[:, None] + torch.arange(patch_height, device=images.device))[:, None, :, None]
    columns = (lefts[:, None] + torch.arange(patch_width, device=images.device))[:, None, None, :]
    which = torch.arange(n, device=images.device)[:, None, None, None]
    channels = torch.arange(3, device=images.device)[None, :, None, None]
    return images.index_put((which, channels, rows, columns), triggers.expand(n, -1, -1, -1))


def one_of(triggers: Tensor) -> TriggerSource:
    """The source that draws from triggers, float (k, 3, th, tw), each with the same chance."""

    def source(count: int, rng: torch.Generator) -> Tensor:
        return triggers[moved(torch.randint(len(triggers), (count,), generator=rng), triggers.device)]

    return source


def either(first: TriggerSource, second: TriggerSource) -> TriggerSource:
    """The source that draws each trigger from one of two sources of triggers of one size, with the same chance."""

    def source(count: int, rng: torch.Generator) -> Tensor:
        from_first = torch.rand((count, 1, 1, 1), generator=rng) < 0.5
        drawn = first(count, rng)
        return torch.where(moved(from_first, drawn.device), drawn, second(count, rng).to(drawn.device))

    return source


def always(trigger: Tensor) -> TriggerSource:
    """The source that gives one trigger, float (3, th, tw), every time."""

    def source(count: int, rng: torch.Generator) -> Tensor:
        return trigger.expand(count, -1, -1, -1)

    return source
