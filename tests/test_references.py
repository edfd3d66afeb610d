"""Clean references: trained once, each of its own, scanned once per settings, and of the suspect's kind or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from untrigger.classifiers import Classifier, load_classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.measurements import Measured
from untrigger.profiles import references_config
from untrigger.references import reference_places, scan_references, train_references
from untrigger.seeding import derived_seed
from untrigger.settings.methods import ClassifierSettings
from untrigger.settings.scans import ReferencesConfig, ScanConfig

pytestmark = pytest.mark.slow

QUICK = {
    "sizes": (3,),
    "restarts": 1,
    "rounds": 1,
    "steps": 2,
    "mask": False,
    "search_images": 20,
    "heldout_images": 20,
}
TINY = {"training": {"epochs": 1}, "data": {"heldout_share": 0.7}}
SCAN = ScanConfig.of({"dataset": "digits", "scan": QUICK, "data": TINY["data"]})


def config(**changes: object) -> ReferencesConfig:
    return references_config("tiny", {**TINY, **changes}, ReferencesConfig)


@pytest.fixture(scope="module")
def training() -> ImageData:
    chosen = config()
    return read_split("digits", chosen.data, seed=derived_seed(0, "split")).training.subset(range(200))


@pytest.fixture(scope="module")
def data() -> ImageData:
    return read_split("digits", SCAN.data, seed=derived_seed(0, "split")).defender.subset(range(60))


@pytest.fixture(scope="module")
def trained(training: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    assert train_references(folder, config(count=2), training) == 2
    return folder


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in load_classifier(folder).state_dict().values()])


def test_each_reference_is_a_network_of_its_own(trained: Path) -> None:
    first, second = reference_places(trained)[:2]
    assert not torch.equal(weights(first), weights(second))


def test_finished_references_are_kept_and_more_can_be_trained(trained: Path, training: ImageData) -> None:
    before = weights(trained / "001")
    assert train_references(trained, config(count=3), training) == 1
    assert len(reference_places(trained)) == 3
    assert torch.equal(weights(trained / "001"), before)


def test_a_reference_that_was_lost_is_trained_again_the_same(trained: Path, training: ImageData) -> None:
    before = weights(trained / "002")
    (trained / "002" / "classifier.json").unlink()
    assert train_references(trained, config(count=2), training) == 1
    assert torch.equal(weights(trained / "002"), before)


def test_another_recipe_in_the_same_folder_is_refused(trained: Path, training: ImageData) -> None:
    with pytest.raises(UserError, match=r"trained with training.epochs 1, not 2"):
        train_references(trained, config(training={"epochs": 2}), training)


def test_what_was_found_in_references_is_kept_per_settings(trained: Path, data: ImageData) -> None:
    suspect = load_classifier(trained / "001")
    first = scan_references(trained, suspect, data, SCAN)
    kept = next((trained / "001" / "scans").iterdir())
    Measured(arms=first[0].arms, seconds=12345.0).save(kept)
    assert scan_references(trained, suspect, data, SCAN)[0].seconds == 12345.0
    longer = SCAN.model_copy(update={"scan": SCAN.scan.model_copy(update={"steps": 3})})
    assert scan_references(trained, suspect, data, longer)[0].seconds != 12345.0


@pytest.mark.parametrize(
    ("settings", "classes", "sentence"),
    [
        (ClassifierSettings(architecture="small_resnet", width=8), 10, "architecture small_resnet of"),
        (ClassifierSettings(architecture="small_resnet", width=4), 3, r"classes 10, not 3"),
    ],
)
def test_a_reference_of_another_kind_is_refused(
    settings: ClassifierSettings, classes: int, sentence: str, trained: Path, data: ImageData, rng: torch.Generator
) -> None:
    suspect: Classifier = new_classifier(settings, classes, data.images, rng)
    with pytest.raises(UserError, match=rf"001 is of another kind than the model \({sentence}"):
        scan_references(trained, suspect, data, SCAN)


def test_references_for_other_data_are_refused(trained: Path, data: ImageData) -> None:
    other = ImageData(data.images, data.labels, tuple("abcdefghij"))
    with pytest.raises(UserError, match="were trained on other data than digits"):
        scan_references(trained, load_classifier(trained / "001"), other, SCAN)


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"data": {"heldout_share": 0.5}}, {"data": {"heldout_share": 0.7, "image_size": 16}}]
)
def test_references_of_another_split_or_size_are_refused(
    change: dict[str, Any], trained: Path, data: ImageData
) -> None:
    config = ScanConfig.of({**SCAN.record(), **change})
    with pytest.raises(UserError, match=r"were trained with .* not .*: give the same"):
        scan_references(trained, load_classifier(trained / "001"), data, config)


def test_a_folder_without_references_is_refused(tmp_path: Path, data: ImageData, tiny_classifier: Classifier) -> None:
    with pytest.raises(UserError, match="holds no references"):
        scan_references(tmp_path, tiny_classifier, data, SCAN)
