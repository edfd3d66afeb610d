"""Classifiers small enough to compute with by hand."""

from __future__ import annotations

import torch
from torch import nn

from untrigger.classifiers import Classifier
from untrigger.settings.methods import ClassifierSettings


def with_network(network: nn.Module, classes: int) -> Classifier:
    """A classifier that hands pixels in [0, 1] to `network` as they are."""
    settings = ClassifierSettings(architecture="small_resnet", width=4, precision="fp32")
    classifier = Classifier(settings, classes, torch.zeros(3), torch.ones(3))
    classifier.network = network
    return classifier


class LinearInMeans(nn.Module):
    """Logits are linear in the mean red, green and blue of an image, for which its weights may be chosen."""

    def __init__(self, weight: list[list[float]]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, len(weight), bias=False)
        self.fc.weight.data = torch.tensor(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(images.mean((2, 3)))
        return logits
