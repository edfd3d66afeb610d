"""The residual network whose norms come before its convolutions (He et al., 2016b), for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PreActResNet18(nn.Module):
    """18 layers, a 3x3 stem, no norm behind the last block: as research code on CIFAR-10 has it, 64 channels wide."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.layer1 = _layer(width, width, stride=1)
        self.layer2 = _layer(width, 2 * width, stride=2)
        self.layer3 = _layer(2 * width, 4 * width, stride=2)
        self.layer4 = _layer(4 * width, 8 * width, stride=2)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(images)))))
        return self.fc(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))


class PreActBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice; where the shape changes, a 1x1 shortcut behind the first ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut)

    def forward(self, features: Tensor) -> Tensor:
        active = torch.relu(self.bn1(features))
        inner = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return inner + (features if self.downsample is None else self.downsample(active))


def _layer(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(PreActBlock(channels_in, channels_out, stride), PreActBlock(channels_out, channels_out, 1))
