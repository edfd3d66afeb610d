"""torchvision's residual networks of two convolutions a block, of any width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from untrigger.networks.torchvision_import import models


def resnet(blocks: Sequence[int], width: int, classes: int) -> models.ResNet:
    """With so many blocks in each of four layers, the first of `width` channels, each next of twice as many.

    torchvision's own class knows a width of 64 only; the layers are made by it again.
    """
    network = models.ResNet(models.resnet.BasicBlock, list(blocks), num_classes=classes)
    if width == network.bn1.num_features:
        return network
    network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    network.inplanes = width
    for number, count in enumerate(blocks):
        layer = network._make_layer(models.resnet.BasicBlock, width * 2**number, count, stride=min(1 + number, 2))
        setattr(network, f"layer{number + 1}", layer)
    network.fc = nn.Linear(8 * width, classes)
    return network
