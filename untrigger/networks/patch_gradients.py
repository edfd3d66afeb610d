"""Gradients that reach back to a stamped patch only: in the early layers, a small window of every feature map.

A patch of 3x3 pixels reaches 5x5 positions behind a 3x3 convolution, 7x7 behind the next, and so on; fewer behind one
of stride 2. The gradient with respect to the patch is the same, up to rounding, when the backward pass of those
convolutions is restricted to these windows; for ResNet-18 on 32x32 pixels that is two fifths less work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

WORTHWHILE_SHARE = 0.6
"""A window that covers more of its feature map than this is not worth cutting out."""


Moving = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
"""What makes each place of a feature map of several places of the one before."""


@dataclass(frozen=True)
class Window:
    """The part of a feature map (n, c, h, w) that each image's patch reaches: its upper left corner, and its size."""

    corners: Tensor
    size: tuple[int, int]

    def behind(self, part: Moving, height: int, width: int) -> Window:
        """The window behind `part`, whose output is of this height and width."""
        reached, extents = self.reached(part), (height, width)
        sizes = [min(size, extent) for size, extent in zip(reached.size, extents, strict=True)]
        last = reached.corners.new_tensor(extents) - reached.corners.new_tensor(sizes)
        return Window(reached.corners.clamp_min(0).minimum(last), (sizes[0], sizes[1]))

    def reached(self, part: Moving) -> Window:
        """All places that `part` makes of some of this window, also those beyond the ends of its output."""
        corners, sizes = [], []
        for axis in (0, 1):
            kernel, stride, padding = _geometry(part, axis)
            corners.append(-((kernel - 1 - padding - self.corners[:, axis]) // stride))
            sizes.append((self.size[axis] + kernel - 2) // stride + 1)
        return Window(torch.stack(corners, 1), (sizes[0], sizes[1]))

    def places(self) -> tuple[Tensor, Tensor]:
        """Rows, (n, height), and columns, (n, width), of each image's."""
        rows, columns = (
            self.corners[:, axis, None] + torch.arange(length, device=self.corners.device)
            for axis, length in enumerate(self.size)
        )
        return rows, columns

    def share(self, height: int, width: int) -> float:
        """How much of a feature map of this height and width it covers."""
        return self.size[0] * self.size[1] / (height * width)


class WindowedConvolution(nn.Conv2d):
    """A frozen convolution whose backward pass may be restricted to a window of its input.

    The window is a part of its state: one thread at a time may use it.
    """

    window: Window | None = None

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> WindowedConvolution:
        """The same convolution, sharing its weights; it must be one that `fits`."""
        assert not isinstance(convolution.padding, str)
        told = (convolution.kernel_size, convolution.stride, convolution.padding)
        kernel, stride, padding = ((pair[0], pair[1]) for pair in told)
        made = cls(convolution.in_channels, convolution.out_channels, kernel, stride, padding, device="meta")
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    @staticmethod
    def fits(convolution: nn.Conv2d) -> bool:
        """Whether it is one of torch's own, neither grouped nor dilated, and padded by a number of zeros."""
        own = type(convolution) is nn.Conv2d and not is_parametrized(convolution)
        plain = (convolution.groups, convolution.dilation, convolution.padding_mode) == (1, (1, 1), "zeros")
        return own and plain and not isinstance(convolution.padding, str)

    def forward(self, features: Tensor) -> Tensor:
        if self.window is None:
            return super().forward(features)
        return _InWindow.apply(features, self.weight, self.bias, self, self.window)


class _InWindow(torch.autograd.Function):
    """A convolution; the gradient of its input is right in the window and 0 elsewhere."""

    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        convolution: WindowedConvolution,
        window: Window,
    ) -> Tensor:
        context.save_for_backward(weight)
        context.told = features.shape, convolution, window
        return functional.conv2d(features, weight, bias, convolution.stride, convolution.padding)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        shape, convolution, window = context.told
        kernel, stride, padding = zip(*(_geometry(convolution, axis) for axis in (0, 1)), strict=True)
        reached = window.reached(convolution)
        # Further out no row or column of the window can lie.
        ends = tuple(max(0, k - s) for k, s in zip(kernel, stride, strict=True))
        inside = functional.conv_transpose2d(_cut(gradient, *reached.places()), weight, stride=stride, padding=ends)
        if stride != (1, 1):  # else what comes back is the window already
            steps, cut, padded = (window.corners.new_tensor(pair) for pair in (stride, ends, padding))
            first = reached.corners * steps + cut - padded
            inside = _cut(inside, *Window(window.corners - first, window.size).places())
        rows, columns = window.places()
        channels_last = inside.new_zeros(shape[0], shape[2], shape[3], shape[1])
        which = torch.arange(len(inside), device=inside.device)[:, None, None]
        channels_last[which, rows[:, :, None], columns[:, None, :]] = inside.permute(0, 2, 3, 1)
        return channels_last.permute(0, 3, 1, 2), *[None] * 4


def _cut(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The positions (rows, columns) of each image, (n, r) and (n, c), out of (n, channels, h, w); 0 outside of it."""
    height, width = features.shape[2:]
    which = torch.arange(len(features), device=features.device)[:, None, None]
    inside_rows, inside_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    cut = features.permute(0, 2, 3, 1)[which, inside_rows[:, :, None], inside_columns[:, None, :]]
    there = (rows == inside_rows)[:, :, None] & (columns == inside_columns)[:, None, :]
    return (cut * there[..., None]).permute(0, 3, 1, 2)


def _geometry(part: Moving, axis: int) -> tuple[int, int, int]:
    """How many places one is made of, with those that dilation leaves out; stride and padding.

    Raises ValueError where it is padded by a word, or its map is rounded up.
    """
    told = (part.kernel_size, part.stride, part.padding, getattr(part, "dilation", 1))
    kernel, stride, padding, dilation = (each if isinstance(each, int) else each[axis] for each in told)
    if not isinstance(padding, int) or getattr(part, "ceil_mode", False):
        raise ValueError(f"the window behind {part} is not known")
    return int(dilation) * (int(kernel) - 1) + 1, int(stride), padding


def _extent(part: Moving, axis: int, extent: int) -> int:
    """Height or width behind it."""
    kernel, stride, padding = _geometry(part, axis)
    return (extent + 2 * padding - kernel) // stride + 1


@contextmanager
def gradients_in_patches(
    path: Sequence[Moving], images: Tensor, positions: Tensor, size: tuple[int, int]
) -> Iterator[None]:
    """Restrict the backward pass of a forward pass in this block to what patches of `size` at `positions` reach.

    path: the convolutions and pools that images, (n, c, h, w), pass one after the other. positions: int64 (n, 2), row
    and column of each image's patch.
    """
    window, (height, width), restricted = Window(positions, size), images.shape[2:], []
    for part in path:
        if isinstance(part, WindowedConvolution) and window.share(height, width) <= WORTHWHILE_SHARE:
            part.window = window
            restricted.append(part)
        height, width = (_extent(part, axis, extent) for axis, extent in enumerate((height, width)))
        window = window.behind(part, height, width)
    try:
        yield
    finally:
        for convolution in restricted:
            convolution.window = None
