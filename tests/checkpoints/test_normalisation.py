"""Which normalisation a file was made with shows in what it recognises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.foreign_networks import CLASSES, torchvision_network
from untrigger.checkpoints.foreign import read_foreign
from untrigger.classifiers import load_classifier
from untrigger.datasets.images import ImageData, save_images
from untrigger.errors import UserError
from untrigger.settings.methods import AS_IN_FILE, ClassifierSettings, CleanTrainingSettings
from untrigger.settings.normalisations import NORMALISATIONS
from untrigger.stages import clean_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Untrained; its norms fit images in [0, 1] that are normalised as ImageNet's."""
    torch.manual_seed(0)
    network = torchvision_network(18, "7x7")
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.inference_mode():
        network.train()(normalised("imagenet"))
    return network.eval()


def pictures() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    means = torch.randint(0, 200, (150, 3, 1, 1), generator=rng)
    return (means + torch.randint(0, 56, (150, 3, 32, 32), generator=rng)).to(torch.uint8)


def normalised(name: str) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISATIONS[name])
    return (pictures() / 255 - mean) / std


@pytest.fixture(scope="module")
def data(network: nn.Module) -> ImageData:
    """The classes are what the network answers when its input is normalised as ImageNet's."""
    with torch.inference_mode():
        labels = network(normalised("imagenet")).argmax(1)
    assert len(labels.unique()) > 3
    return ImageData(pictures(), labels, tuple("abcdefg"))


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    torch.save({"state_dict": network.state_dict()}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def take(file: Path, data: ImageData, settings: ClassifierSettings) -> Path:
    """The folder with what clean training makes of a file."""
    save_images(data, file.parent / "data")
    clean_training.run(
        training_data=file.parent / "data",
        clean_classifier=file.parent / "out",
        classifier=settings.record(),
        training=CleanTrainingSettings().record(),
        weights=str(file),
        seed=0,
    )
    return file.parent / "out"


def test_candidates_are_ranked_by_what_they_recognise(file: Path, data: ImageData, rng: torch.Generator) -> None:
    found = read_foreign(file).candidates(ClassifierSettings(), data, rng)
    assert found[0].settings.normalisation == "imagenet" and found[0].accuracy == 1
    assert {each.settings.normalisation for each in found} == {*NORMALISATIONS, "data"}
    assert [each.accuracy for each in found] == sorted((each.accuracy for each in found), reverse=True)
    assert found[-1].accuracy < 0.9


def test_clean_training_takes_the_best_and_says_by_how_much(
    file: Path, data: ImageData, network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = load_classifier(take(file, data, ClassifierSettings(architecture=AS_IN_FILE, precision="fp32")))
    told = capsys.readouterr().out
    assert "resnet18_7x7 normalised by imagenet, 100.0 % of the images right; next resnet18_7x7 normalised by" in told
    with torch.inference_mode():
        found, expected = taken(data.images), network(normalised("imagenet"))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_stated_normalisation_is_taken_whatever_it_recognises(file: Path, data: ImageData) -> None:
    stated = ClassifierSettings(architecture=AS_IN_FILE, normalisation="0.1,0.2,0.3,0.4,0.5,0.6")
    taken = load_classifier(take(file, data, stated))
    assert torch.equal(torch.cat([taken.mean, taken.std]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


def test_a_file_for_other_classes_is_refused(file: Path, data: ImageData, rng: torch.Generator) -> None:
    more = ImageData(data.images, data.labels, (*data.class_names, "another"))
    with pytest.raises(UserError, match=f"has {CLASSES} classes, the dataset has {CLASSES + 1}"):
        read_foreign(file).candidates(ClassifierSettings(), more, rng)


@pytest.mark.parametrize("text", ["mnist", "1,2,3", "0,0,0,1,1,0", "0,0,nan,1,1,1", ""])
def test_a_normalisation_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="normalisation: must be one of data, identity, cifar10"):
        ClassifierSettings.of({"normalisation": text})
