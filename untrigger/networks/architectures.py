"""The networks that a classifier can have, by name. torch is imported when one is built, so that names are quick."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from untrigger.errors import UserError
from untrigger.plugins import load_plugins

if TYPE_CHECKING:
    from torch import nn

    from untrigger.settings.methods import ClassifierSettings

    Build = Callable[[ClassifierSettings, int], nn.Module]
    """From the settings and the number of classes to a network: float (n, 3, h, w), normalised, to (n, classes)."""

STEM_WIDTH = 64
"""Channels behind the first convolution, as published."""


def _resnet(depth: int, *, wide_stem: bool = False, pooled: bool = False) -> Build:
    """torchvision's, its stem 7x7 and halving for large images or 3x3 for small ones, a max-pool behind it or none."""

    def build(settings: ClassifierSettings, classes: int) -> nn.Module:
        from torch import nn

        from untrigger.networks.torchvision_resnet import resnet

        width = settings.stem_width or STEM_WIDTH
        network = resnet({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth], width, classes)
        if not wide_stem:
            network.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=1, padding=1, bias=False)
        if not pooled:
            network.maxpool = nn.Identity()
        return network

    return build


def _preact_resnet18(settings: ClassifierSettings, classes: int) -> nn.Module:
    from untrigger.networks.preact_resnet import PreActResNet18

    return PreActResNet18(settings.stem_width or STEM_WIDTH, classes)


def _vgg(letter: str) -> Build:
    """torchvision's convolutions with batch norm, of the configuration `letter`, under one linear layer."""

    def build(settings: ClassifierSettings, classes: int) -> nn.Module:
        from torch import nn

        from untrigger.networks.torchvision_import import models

        width = settings.stem_width or STEM_WIDTH
        layers = [part if isinstance(part, str) else part * width // STEM_WIDTH for part in models.vgg.cfgs[letter]]
        features = models.vgg.make_layers(layers, batch_norm=True)
        parts = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(8 * width, classes)}
        return nn.Sequential(OrderedDict(features=features, **parts))

    return build


def _small_resnet(settings: ClassifierSettings, classes: int) -> nn.Module:
    from untrigger.networks.small_resnet import SmallResNet

    return SmallResNet(settings.width, classes)


_BUILT_IN: dict[str, Build] = {
    **{f"resnet{depth}": _resnet(depth) for depth in (18, 34)},
    **{f"resnet{depth}_3x3_maxpool": _resnet(depth, pooled=True) for depth in (18, 34)},
    **{f"resnet{depth}_7x7": _resnet(depth, wide_stem=True, pooled=True) for depth in (18, 34)},
    "preact_resnet18": _preact_resnet18,
    **{f"vgg{depth}_bn": _vgg(letter) for depth, letter in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))},
    "small_resnet": _small_resnet,
}
_BUILDS = dict(_BUILT_IN)


def register_architecture(name: str, build: Build) -> None:
    """Let `classifier.architecture` be `name`: `build(settings, classes)` gives its network, untrained.

    The network takes normalised images, float (n, 3, h, w), and gives logits, float (n, classes). A name of one's own
    may be registered again; a built-in one is refused with a UserError. Stages are processes of their own: for
    `untrigger run` the call stands in a module that UNTRIGGER_PLUGINS names.
    """
    if name in _BUILT_IN:
        raise UserError(f"the architecture {name!r} is built in: register yours by another name")
    _BUILDS[name] = build


def is_built_in(name: str) -> bool:
    """Whether it is one of untrigger's own."""
    return name in _BUILT_IN


def check_architecture(name: str) -> None:
    """UserError when no network of that name is registered."""
    if name not in _BUILDS:
        load_plugins()
    if name not in _BUILDS:
        raise UserError(
            f"unknown classifier.architecture {name!r}: choose one of {', '.join(sorted(_BUILDS))}, or register yours "
            "in a module that UNTRIGGER_PLUGINS names"
        )


def build_network(settings: ClassifierSettings, classes: int) -> nn.Module:
    """An untrained network of the architecture in `settings`; UserError when there is none of that name."""
    check_architecture(settings.architecture)
    return _BUILDS[settings.architecture](settings, classes)
