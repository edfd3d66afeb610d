"""The names that libraries give to the tensors of the same networks: a dialect is a renaming onto our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from untrigger.checkpoints.unwrapping import COUNTERS, without_prefixes
from untrigger.networks.architectures import STEM_WIDTH, build_network
from untrigger.networks.graph_network import NetworkGraph
from untrigger.settings.methods import AS_IN_FILE, NARROWEST_STEM, ClassifierSettings

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

SMALL = "small_resnet"
"""The one of our own whose width has a setting of its own."""

OWN = "untrigger"
"""Stands for the names that a network of the user's own has."""

ARCHITECTURES = (
    *(f"resnet{depth}{stem}" for stem in ("", "_3x3_maxpool", "_7x7") for depth in (18, 34)),
    "preact_resnet18",
    *(f"vgg{depth}_bn" for depth in (11, 13, 16, 19)),
)
"""The networks of our own that a file may hold, the likeliest first: a max-pool leaves no tensor."""

STEMS = ("conv1.weight", "features.0.weight")
"""The first convolution of the networks of our own, whose channels tell how wide they are."""

MOST_CLASSES, WIDEST = 2**16, 512
"""A file may claim any numbers, and networks are built for as many classes and as wide as it says."""


@dataclass(frozen=True)
class Match:
    """A state dict under our own names, and what it fits: by shapes alone more than one network may.

    origins: the name in the file of each tensor. graph: the network where it is none that a name stands for.
    """

    dialect: str
    architectures: tuple[str, ...]
    classes: int
    state: dict[str, Tensor]
    origins: dict[str, str]
    graph: NetworkGraph | None = None

    def read_as(self, architecture: str, settings: ClassifierSettings) -> ClassifierSettings:
        """The settings with that one of the architectures, as wide as it is in the file."""
        return _as_wide(self.state, settings.model_copy(update={"architecture": architecture}))


def recognised(state: Mapping[str, Tensor], given: ClassifierSettings | None = None, classes: int = 0) -> Match | None:
    """The first dialect that makes `state` one of our own networks, None when there is none.

    An architecture that `given` names is the only one looked for; it may be one of the user's own, for that many
    classes (0: as many as the last tensor tells), by that network's own names.
    """
    named = given if given is not None and given.architecture != AS_IN_FILE else None
    for dialect, origins, renamed in _readings(state):
        head = renamed.get("fc.weight")
        if head is not None and head.ndim == 2 and (found := _fitting(renamed, named, len(head))):
            return Match(dialect, found, len(head), renamed, origins)
    if named is not None and (count := classes or _classes_told(state)):
        origins = without_prefixes(state)
        own = {name: state[whole] for name, whole in origins.items()}
        if found := _fitting(own, named, count):
            return Match(OWN, found, count, own, origins)
    return None


def difference_from(state: Mapping[str, Tensor], named: ClassifierSettings, classes: int) -> str:
    """Where a file that was not recognised differs from the network that `named` names, for that many classes."""
    count = classes or _classes_told(state)
    if not 0 < count <= MOST_CLASSES:
        return "its last tensor tells no number of classes"
    own = {name: state[whole] for name, whole in without_prefixes(state).items()}
    found, expected = _shapes(own), _shapes(build_network(_as_wide(own, named), count).state_dict())
    name = next(name for name in (*expected, *found) if found.get(name) != expected.get(name))
    here, there = (f"{shapes[name]}" if name in shapes else "not there" for shapes in (found, expected))
    return f"{name} is {here} in the file and {there} in that network for {count} classes"


def _classes_told(state: Mapping[str, Tensor]) -> int:
    """The outputs of the last layer, as a rule that of the classes."""
    last = list(state.values())[-1:]
    return len(last[0]) if last and last[0].ndim in (1, 2) else 0


def first_difference(state: Mapping[str, Tensor]) -> str | None:
    """The first tensor of another shape, where `state` has all names of one of our own networks: the nearest one."""
    found = []
    for dialect, origins, renamed in _readings(state):
        shapes, head = _shapes(renamed), renamed.get("fc.weight")
        classes = len(head) if head is not None and head.ndim else 0
        for name in ARCHITECTURES if 0 < classes <= MOST_CLASSES else ():
            expected = _own_shapes(ClassifierSettings(architecture=name), classes)
            others = [own for own in expected if shapes.get(own) != expected[own]]
            if others and shapes.keys() == expected.keys():
                where = f"{origins[others[0]]} is {shapes[others[0]]}, there {expected[others[0]]}"
                found.append((len(others), f"of a {name} as {dialect} names it, but {where}"))
    return min(found)[1] if found else None


def _readings(state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, str], dict[str, Tensor]]]:
    """The dialects that leave all names apart: their names, that of each tensor in the file, the tensors renamed."""
    plain = without_prefixes(state)
    for dialect, renaming in DIALECTS.items():
        origins = {_renamed(name, renaming): whole for name, whole in plain.items()}
        if len(origins) == len(plain):
            yield dialect, origins, {name: state[whole] for name, whole in origins.items()}


def _fitting(state: Mapping[str, Tensor], named: ClassifierSettings | None, classes: int) -> tuple[str, ...]:
    """The architectures, or that one which is named, whose tensors have the names and shapes of `state`."""
    shapes = _shapes(state)
    if named is not None:
        network = build_network(_as_wide(state, named), classes) if classes <= MOST_CLASSES else None
        return (named.architecture,) if network is not None and _shapes(network.state_dict()) == shapes else ()
    candidates = (_as_wide(state, ClassifierSettings(architecture=name)) for name in (*ARCHITECTURES, SMALL))
    return tuple(each.architecture for each in candidates if _own_shapes(each, classes) == shapes)


def _as_wide(state: Mapping[str, Tensor], settings: ClassifierSettings) -> ClassifierSettings:
    """The settings with the width that a network of our own has in a file."""
    stem = next((state[name] for name in STEMS if name in state), None)
    width = 0 if stem is None or stem.ndim != 4 or len(stem) > WIDEST else len(stem)
    if settings.architecture == SMALL and width:
        return settings.model_copy(update={"width": width})
    if settings.architecture in ARCHITECTURES and width >= NARROWEST_STEM:
        return settings.model_copy(update={"stem_width": None if width == STEM_WIDTH else width})
    return settings


def _renamed(name: str, renaming: Renaming) -> str:
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


@cache
def _own_shapes(settings: ClassifierSettings, classes: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return _shapes(build_network(settings, classes).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTERS)}
