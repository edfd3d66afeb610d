"""Tiny data and networks for the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.settings.methods import ClassifierSettings


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny_images() -> ImageData:
    """120 images of 16x16 in three classes, told apart by their dominant channel."""
    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(120) % 3
    images = torch.randint(0, 80, (120, 3, 16, 16), generator=rng)
    images[torch.arange(120), labels] += 120
    return ImageData(images.to(torch.uint8), labels, ("red", "green", "blue"))


@pytest.fixture
def tiny_classifier(tiny_images: ImageData) -> Classifier:
    """An untrained small network for the tiny images, in evaluation mode."""
    settings = ClassifierSettings(architecture="small_resnet", width=4)
    return new_classifier(settings, 3, tiny_images.images, torch.Generator().manual_seed(2)).eval()


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests track only where they say so."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "UNTRIGGER_STAGES",
        "UNTRIGGER_PROGRESS",
        "UNTRIGGER_THREADS",
        "UNTRIGGER_TRACKING",
    ):
        monkeypatch.delenv(name, raising=False)
