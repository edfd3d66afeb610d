"""The scan: what it finds in a backdoored network, what in a clean one, and that division changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.measurements import MASK
from untrigger.metrics import predict
from untrigger.scanning import Scan, scan_classifier
from untrigger.settings.scans import ScanSettings

pytestmark = pytest.mark.slow

SETTINGS = ScanSettings(sizes=(2, 3), restarts=4, rounds=3, steps=8, mask_steps=40, mask_images_per_step=8)


@pytest.fixture(scope="module")
def scanned(backdoored: Classifier, tiny_images: ImageData) -> Scan:
    return scan_classifier(backdoored, tiny_images, SETTINGS, rng=seeded())


def test_a_planted_backdoor_stands_out_with_its_class(scanned: Scan, clean: Classifier, tiny_images: ImageData) -> None:
    unsuspicious = scan_classifier(clean, tiny_images, SETTINGS, rng=seeded()).measured
    assert scanned.measured.best("3").target_class == 0
    assert scanned.measured.statistics()["3"] > unsuspicious.statistics()["3"] + 0.3
    assert scanned.measured.leading()[1] == 0


@pytest.mark.parametrize("scale", [1e-20, 1e5, 3e30])
def test_whoever_made_the_file_cannot_hide_a_backdoor_behind_the_scale_of_the_logits(
    scale: float, backdoored: Classifier, tiny_images: ImageData, scanned: Scan
) -> None:
    scaled = copy.deepcopy(backdoored)
    with torch.no_grad():
        for tensor in scaled.network.get_submodule("fc").parameters():
            tensor.mul_(scale)
    found = scan_classifier(scaled, tiny_images, SETTINGS, rng=seeded()).measured
    assert found.leading() == scanned.measured.leading()
    for search, value in scanned.measured.statistics().items():
        assert found.statistics()[search] == pytest.approx(value, abs=0.1)


def test_each_class_and_search_has_an_arm(scanned: Scan) -> None:
    arms = [(arm.search, arm.target_class) for arm in scanned.measured.arms]
    assert arms == [(search, target) for search in ("2", "3", MASK) for target in range(3)]
    assert all(patch.shape == (3, int(search), int(search)) for (search, _), patch in scanned.patches.items())
    assert all(patch.min() >= 0 and patch.max() <= 1 for patch in scanned.patches.values())


def test_only_the_better_classes_go_through_all_rounds(scanned: Scan) -> None:
    rounds = {arm.target_class: arm.rounds or 0 for arm in scanned.measured.by("3")}
    assert rounds[0] == 3
    assert sorted(rounds.values()) == [1, 3, 3]


def test_the_same_seed_finds_the_same_however_the_work_is_divided(
    backdoored: Classifier, tiny_images: ImageData, scanned: Scan
) -> None:
    again = scan_classifier(backdoored, tiny_images, SETTINGS, rng=seeded(), chunk=24)
    for first, second in zip(scanned.measured.arms, again.measured.arms, strict=True):
        assert (first.search, first.target_class, first.rounds) == (second.search, second.target_class, second.rounds)
        assert first.success == pytest.approx(second.success, abs=0.05)
    for key, patch in scanned.patches.items():
        torch.testing.assert_close(patch, again.patches[key], atol=0.02, rtol=0)


def test_the_same_scan_twice_is_the_same_bit_for_bit(
    backdoored: Classifier, tiny_images: ImageData, scanned: Scan
) -> None:
    again = scan_classifier(backdoored, tiny_images, SETTINGS, rng=seeded())
    assert again.measured.arms == scanned.measured.arms
    assert all(torch.equal(patch, again.patches[key]) for key, patch in scanned.patches.items())


def test_the_floor_is_what_goes_there_without_a_patch(clean: Classifier, tiny_images: ImageData) -> None:
    settings = SETTINGS.model_copy(update={"heldout_images": 60, "search_images": 60, "mask": False})
    # The held-out images are drawn by the scan: over all classes they add up to the errors on them.
    floors = [arm.floor for arm in scan_classifier(clean, tiny_images, settings, rng=seeded()).measured.by("3")]
    right = (predict(clean, tiny_images.images).argmax(1) == tiny_images.labels).all()
    assert bool(right) == (sum(floors) == 0)


def test_a_source_class_is_no_target(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = SETTINGS.model_copy(update={"source_class": 1, "mask": False, "steps": 1, "rounds": 1})
    arms = scan_classifier(backdoored, tiny_images, settings, rng=seeded()).measured.by("3")
    assert [arm.target_class for arm in arms] == [0, 2]


def test_patches_as_large_as_the_image_are_left_out(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = SETTINGS.model_copy(update={"sizes": (3, 16), "mask": False, "steps": 1, "rounds": 1})
    assert scan_classifier(backdoored, tiny_images, settings, rng=seeded()).measured.searches == ("3",)


def test_too_few_images_are_refused(backdoored: Classifier, tiny_images: ImageData) -> None:
    with pytest.raises(UserError, match="at least 4 images, got 3"):
        scan_classifier(backdoored, tiny_images.subset([0, 1, 2]), SETTINGS, rng=seeded())


def test_a_network_that_answers_nan_is_refused(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    with torch.no_grad():
        next(tiny_classifier.network.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="NaN"):
        scan_classifier(tiny_classifier, tiny_images, SETTINGS, rng=seeded())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": (0,)}, "sizes must be different whole numbers above 0, got 0"),
        ({"sizes": (3, 3)}, "sizes must be different whole numbers above 0, got 3, 3"),
        ({"budget": "huge"}, "budget must be quick, standard, thorough or a number above 0, got 'huge'"),
        ({"budget": "0"}, "budget must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ScanSettings.of(changes)
