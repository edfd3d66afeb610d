"""The names that libraries give to the tensors of the same networks: a dialect is a renaming onto our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from untrigger.checkpoints.unwrapping import COUNTERS
from untrigger.networks.architectures import build_network
from untrigger.settings.methods import ClassifierSettings

Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns and what takes their place, one after the other."""

DIALECTS: dict[str, Renaming] = {
    "torchvision": (),
    "pytorch-cifar": ((r"\.shortcut\.", ".downsample."), (r"^(linear|classifier)\.(?=weight|bias)", "fc.")),
    "TrojanZoo": ((r"^features\.", ""), (r"^classifier\.fc\.", "fc.")),
    "Hugging Face": (
        (r"^resnet\.embedder\.embedder\.", ".0."),
        (r"^resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)", lambda found: f"layer{int(found[1]) + 1}.{found[2]}"),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
        (r"(?:\.layer)?\.(\d+)\.convolution\.", lambda found: f".conv{int(found[1]) + 1}."),
        (r"(?:\.layer)?\.(\d+)\.normalization\.", lambda found: f".bn{int(found[1]) + 1}."),
        (r"^\.", ""),
        (r"^classifier\.1\.", "fc."),
    ),
}
"""The first that fits is meant. timm names as torchvision, BackdoorBench's pre-activation ResNet as pytorch-cifar."""

ARCHITECTURES = (
    *(f"resnet{depth}{stem}" for stem in ("", "_3x3_maxpool", "_7x7") for depth in (18, 34)),
    "preact_resnet18",
    *(f"vgg{depth}_bn" for depth in (11, 13, 16, 19)),
)
"""The networks of our own that a file may hold, the likeliest first: a max-pool leaves no tensor."""


@dataclass(frozen=True)
class Match:
    """A state dict under our own names, and what it fits: by shapes alone more than one network may."""

    dialect: str
    architectures: tuple[str, ...]
    classes: int
    state: dict[str, Tensor]


def recognised(state: dict[str, Tensor], given: ClassifierSettings | None = None, classes: int = 0) -> Match | None:
    """The first dialect that makes `state` one of our own networks, None when there is none.

    What no dialect fits may still be the architecture in `given`, for that many classes, by that network's own names.
    """
    for dialect, renaming in DIALECTS.items():
        renamed = {_renamed(name, renaming): value for name, value in state.items()}
        head = renamed.get("fc.weight")
        if len(renamed) == len(state) and head is not None and head.ndim == 2:
            found = tuple(name for name in ARCHITECTURES if _own_shapes(name, len(head)) == _shapes(renamed))
            if found:
                return Match(dialect, found, len(head), renamed)
    if given is not None and _shapes(build_network(given, classes).state_dict()) == _shapes(state):
        return Match(given.architecture, (given.architecture,), classes, state)
    return None


def _renamed(name: str, renaming: Renaming) -> str:
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


@cache
def _own_shapes(architecture: str, classes: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return _shapes(build_network(ClassifierSettings(architecture=architecture), classes).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTERS)}
