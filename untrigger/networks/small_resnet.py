"""A residual network for CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallResNet(nn.Module):
    """A residual network for CPUs: a stem that halves the image, then two residual blocks that halve it again.

    Batch norm follows each convolution under the name `bnK` for `convK`, as in torchvision's ResNet.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = ResidualBlock(width, 2 * width)
        self.layer2 = ResidualBlock(2 * width, 4 * width)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.bn1(self.conv1(images)))
        features = self.layer2(self.layer1(features))
        return self.fc(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, each halving height and width (He et al., 2016)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(features)))
        # Every second pixel, then 1x1: the same as a 1x1 convolution of stride 2, whose backward pass writes outside
        # its memory on the CPU (torch 2.13, channels last, fewer than 16 channels, two threads).
        halved = nn.functional.avg_pool2d(features, 1, stride=2)
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(halved))
