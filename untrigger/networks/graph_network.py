"""A network that is told layer by layer, as files with a graph tell theirs: built from a short list of kinds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from untrigger.errors import UserError
from untrigger.settings.base import Frozen

IMAGES = "images"
"""What the first layers take."""

MOST_NUMBERS = 2**28
"""Parameters of the largest network that is built: 1 GB."""

MOST_PER_PIXEL, MOST_WORK = 2**10, 2**35
"""Numbers that a layer may give for each pixel of an image, and multiplications that all may do for an image: a wide
ResNet for 32 pixels has 160 and 5 thousand million, a VGG for 224 pixels 64 and 20 thousand million."""

COMPARISON = 16
"""Multiplications that take as long as one comparison in a pool."""

Kind = Literal[
    "convolution", "norm", "relu", "max_pool", "average_pool", "global_pool", "flatten", "linear", "add", "affine"
]
Size = Annotated[int, Field(ge=0, le=2**16)]


class Layer(Frozen):
    """One layer: what it takes, IMAGES or layers before it by their names, and what its kind is told."""

    name: Annotated[str, Field(pattern=r"^[a-z_]+_?\d+$")]
    kind: Kind
    inputs: tuple[str, ...]
    options: dict[str, bool | Size | float | tuple[Size, ...]] = {}


class NetworkGraph(Frozen):
    """Layers in an order in which each comes after what it takes; the last one gives the logits."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=2000)]

    @model_validator(mode="after")
    def _inputs_are_before(self) -> Self:
        known = {IMAGES}
        for layer in self.layers:
            if layer.name in known or not layer.inputs or not known.issuperset(layer.inputs):
                raise ValueError(f"layers must each be new and take earlier ones, {layer.name!r} does not")
            known.add(layer.name)
        return self


class Add(nn.Module):
    """The sum of two layers."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class Affine(nn.Module):
    """One scale and one shift per channel, or for all (1), that no training changes: normalisation within a graph."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.scale + self.shift


_BUILDS: dict[Kind, Callable[..., nn.Module]] = {
    "convolution": nn.Conv2d,
    "norm": nn.BatchNorm2d,
    "relu": nn.ReLU,
    "max_pool": nn.MaxPool2d,
    "average_pool": nn.AvgPool2d,
    "global_pool": lambda: nn.AdaptiveAvgPool2d(1),
    "flatten": nn.Flatten,
    "linear": nn.Linear,
    "add": Add,
    "affine": Affine,
}
assert set(_BUILDS) == set(get_args(Kind))


class GraphNetwork(nn.Module):
    """Normalised images, float (n, 3, h, w), to logits, float (n, classes), as a graph says.

    UserError when a layer is told what its kind does not take, or when all, or what a layer gives, is too large.
    """

    def __init__(self, graph: NetworkGraph) -> None:
        super().__init__()
        with torch.device("meta"):
            drafts = [_built(layer).eval() for layer in graph.layers]
        if sum(tensor.numel() for draft in drafts for tensor in draft.state_dict().values()) > MOST_NUMBERS:
            raise UserError(f"the network of {len(drafts)} layers has more than {MOST_NUMBERS:,} numbers")
        self._layers, self._drafts, self._checked = graph.layers, drafts, set[torch.Size]()
        for layer in graph.layers:
            self.add_module(layer.name, _built(layer))
        last_use = {name: number for number, layer in enumerate(graph.layers) for name in layer.inputs}
        self._done_with = [[name for name, last in last_use.items() if last == n] for n in range(len(graph.layers))]

    def _check_cost(self, size: torch.Size) -> None:
        """UserError where a layer gives too much for an image of this size, or all do too much: before they do."""
        pixels, work = size[-2] * size[-1], 0
        values = {IMAGES: torch.empty((1, *size), device="meta")}
        for layer, draft in zip(self._layers, self._drafts, strict=True):
            try:
                result = values[layer.name] = draft(*(values[name] for name in layer.inputs))
            except (RuntimeError, ValueError, IndexError) as error:
                raise UserError(f"the layer {layer.name} does not take what comes to it: {error}") from error
            work += result.numel() * _work_for_one(draft)
            if result.numel() > MOST_PER_PIXEL * pixels or work > MOST_WORK:
                raise UserError(
                    f"the layers up to {layer.name} are larger than those of any network for images of {size[-2]}x"
                    f"{size[-1]} pixels"
                )
        self._checked.add(size)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] not in self._checked:
            self._check_cost(images.shape[1:])
        values = {IMAGES: images}
        for layer, done_with in zip(self._layers, self._done_with, strict=True):
            result: Tensor = self.get_submodule(layer.name)(*(values[name] for name in layer.inputs))
            for name in done_with:
                del values[name]
            values[layer.name] = result
        return result


def _work_for_one(layer: nn.Module) -> int:
    """Multiplications, or what takes as long, for each number that a layer gives."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if isinstance(layer, nn.Conv2d):
        return layer.weight[0].numel()
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        kernel = layer.kernel_size
        return COMPARISON * (kernel**2 if isinstance(kernel, int) else math.prod(kernel))
    return 1


def _built(layer: Layer) -> nn.Module:
    try:
        return _BUILDS[layer.kind](**layer.options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"the layer {layer.name} is no {layer.kind}: {error}") from error
