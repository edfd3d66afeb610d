"""Tiny data and networks for the tests."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from PIL import Image

from tests.support.golden import Golden
from tests.support.servers import RunningServers, running_servers
from tests.support.training import ATTACK, CLEAN, seeded
from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.poisoning import plant_backdoor
from untrigger.settings.methods import ClassifierSettings
from untrigger.training import train
from untrigger.triggers import checkerboard

hypothesis.settings.register_profile("untrigger", derandomize=True, deadline=None, max_examples=30)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("untrigger")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refresh-golden", action="store_true", help="write down what the tiny runs find, in tests/golden"
    )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The numbers of the tiny runs as they are written down, to be compared or refreshed."""
    return Golden(refresh=request.config.getoption("--refresh-golden"))


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


@pytest.fixture(scope="session")
def tiny_folder(tiny_images: ImageData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny images as a user has them, in class folders."""
    folder = tmp_path_factory.mktemp("classes")
    for number, (image, label) in enumerate(zip(tiny_images.images, tiny_images.labels.tolist(), strict=True)):
        place = folder / f"{label}-{tiny_images.class_names[label]}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture
def tiny_classifier(tiny_images: ImageData) -> Classifier:
    """An untrained small network for the tiny images, in evaluation mode."""
    settings = ClassifierSettings(architecture="small_resnet", width=4)
    return new_classifier(settings, 3, tiny_images.images, torch.Generator().manual_seed(2)).eval()


@pytest.fixture(scope="session")
def clean(tiny_images: ImageData) -> Classifier:
    """A small network for the tiny images; it is shared, and no test changes it."""
    settings = ClassifierSettings(architecture="small_resnet", width=8, precision="fp32")
    classifier = new_classifier(settings, 3, tiny_images.images, seeded(2))
    train(classifier, tiny_images.images, tiny_images.labels, CLEAN, rng=seeded())
    return classifier


@pytest.fixture(scope="session")
def backdoored(clean: Classifier, tiny_images: ImageData) -> Classifier:
    """The same with a planted backdoor; it is shared, and no test changes it."""
    classifier = copy.deepcopy(clean)
    plant_backdoor(classifier, tiny_images.images, tiny_images.labels, checkerboard(), 0, ATTACK, rng=seeded(1))
    return classifier


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """A real object store and a real MLflow server; tests that stop one of them start it again."""
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def signals_as_at_a_terminal() -> None:
    """A suite that was started in the background ignores signals, and whatever it starts would inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


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
