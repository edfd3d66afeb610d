"""A network that gets a CPU through many large pictures: registered where UNTRIGGER_PLUGINS names this module."""

from __future__ import annotations

from torch import Tensor, nn

from untrigger import register_architecture
from untrigger.settings.methods import ClassifierSettings

STRIDED = "strided"


class StridedNetwork(nn.Module):
    """Pictures an eighth as high and wide from the first convolution on."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 8, stride=8, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.last = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.block(self.stem(images)).mean((2, 3)))


def build(settings: ClassifierSettings, classes: int) -> nn.Module:
    return StridedNetwork(settings.width, classes)


register_architecture(STRIDED, build)
