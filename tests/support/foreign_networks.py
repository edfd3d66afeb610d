"""Networks as other projects build them, for files that they would write.

Their libraries are imported late: they import torchvision, which has to be declared to torch here first.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from untrigger.networks.torchvision_import import models

CLASSES = 7


def torchvision_network(depth: int, stem: str) -> nn.Module:
    """stem: 7x7, or 3x3 with a max-pool behind it or without one."""
    network: nn.Module = {18: models.resnet18, 34: models.resnet34}[depth](num_classes=CLASSES)
    return network if stem == "7x7" else with_small_stem(network, pooled=stem == "3x3 and max-pool")


def with_small_stem(network: nn.Module, *, pooled: bool = False) -> nn.Module:
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if not pooled:
        network.maxpool = nn.Identity()
    return network


def timm_network(name: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, num_classes=CLASSES)
    return network


class HuggingFaceNetwork(nn.Module):
    """The model of transformers, its logits alone; its own tensors bear its own names."""

    def __init__(self) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__init__()
        config = ResNetConfig(
            embedding_size=64,
            hidden_sizes=[64, 128, 256, 512],
            depths=[2, 2, 2, 2],
            layer_type="basic",
            num_labels=CLASSES,
        )
        self.model = ResNetForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).logits
        return logits


class CifarBlock(nn.Module):
    """Two convolutions and a `shortcut`, its norms behind the convolutions or, pre-activated, before them."""

    def __init__(self, channels_in: int, channels_out: int, preactivated: bool) -> None:
        super().__init__()
        stride = 1 if channels_in == channels_out else 2
        self.preactivated = preactivated
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in if preactivated else channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            if not preactivated:
                self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, features: Tensor) -> Tensor:
        if self.preactivated:
            active = self.bn1(features).relu()
            beside = self.shortcut(active) if len(self.shortcut) else features
            return self.conv2(self.bn2(self.conv1(active)).relu()) + beside
        inner = self.bn2(self.conv2(self.bn1(self.conv1(features)).relu()))
        return (inner + self.shortcut(features)).relu()


class CifarNetwork(nn.Module):
    """Named as the pytorch-cifar lineage names: `shortcut`, `linear`; pooled by a window of 4."""

    def __init__(self, blocks: tuple[int, ...], *, preactivated: bool = False, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        if not preactivated:
            self.bn1 = nn.BatchNorm2d(width)
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        for number, count in enumerate(blocks, start=1):
            first = CifarBlock(widths[number - 1], widths[number], preactivated)
            rest = (CifarBlock(widths[number], widths[number], preactivated) for _ in range(count - 1))
            setattr(self, f"layer{number}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(8 * width, CLASSES)
        self.preactivated = preactivated

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        if not self.preactivated:
            features = self.bn1(features).relu()
        for number in range(1, 5):
            features = getattr(self, f"layer{number}")(features)
        return self.linear(nn.functional.avg_pool2d(features, 4).flatten(1))


class CifarVgg(nn.Module):
    """The convolutions of VGG-11 or VGG-16 with batch norm, and one linear layer called `classifier`."""

    CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}

    def __init__(self, depth: int, width: int = 64) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels = 3
        for count, times in zip(self.CONVOLUTIONS[depth], (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                wide = times * width
                parts += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
                channels = wide
            parts.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*parts, nn.AvgPool2d(1, 1))
        self.classifier = nn.Linear(8 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


def trojanzoo_network() -> nn.Module:
    """torchvision's in two parts, `features` and `classifier`."""
    whole = torchvision_network(18, "3x3")
    parts = OrderedDict((name, part) for name, part in whole.named_children() if name not in ("avgpool", "fc"))
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(parts),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(OrderedDict(fc=whole.get_submodule("fc"))),
        )
    )


def with_statistics(network: nn.Module) -> nn.Module:
    """In evaluation mode, every norm with statistics and weights of its own."""
    rng = torch.Generator().manual_seed(5)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.running_var, part.weight.data, part.bias.data):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand(part.num_features, generator=rng))
    return network.eval()
