"""Neural Cleanse: masks that send images to a class, and its index."""

from __future__ import annotations

import pytest
import torch

from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import predict
from untrigger.neural_cleanse import Masks, anomaly_indices, reverse_masks, strongest_patterns
from untrigger.settings.scans import ScanSettings


@pytest.mark.slow
def test_the_backdoored_class_needs_the_smallest_mask(backdoored: Classifier, tiny_images: ImageData) -> None:
    allowed = {target: (tiny_images.labels != target).nonzero().squeeze(1) for target in range(3)}
    settings = ScanSettings(mask_steps=150, mask_images_per_step=16)
    masks = reverse_masks(backdoored, tiny_images.images, allowed, settings, rng=seeded())
    assert masks.norms.argmin() == 0
    shown = masks.applied(0, tiny_images.images[allowed[0]])
    assert (predict(backdoored, shown).argmax(1) == 0).double().mean() > 0.9
    assert shown.min() >= 0 and shown.max() <= 1


@pytest.mark.slow
def test_more_classes_than_memory_is_meant_for_are_searched_in_parts(clean: Classifier, tiny_images: ImageData) -> None:
    allowed = {target: (tiny_images.labels != target).nonzero().squeeze(1) for target in range(3)}
    settings = ScanSettings(mask_steps=20, mask_images_per_step=1400)
    told: list[tuple[int, int]] = []
    every = reverse_masks(
        clean, tiny_images.images, allowed, settings, rng=seeded(), on_step=lambda *step: told.append(step)
    )
    first = {target: allowed[target] for target in range(2)}
    alone = reverse_masks(clean, tiny_images.images, first, settings, rng=seeded())
    assert torch.equal(every.masks[:2], alone.masks) and torch.equal(every.patterns[:2], alone.patterns)
    assert every.masks.shape == (3, 16, 16)
    assert told == [(step, 40) for step in range(1, 41)]


@pytest.mark.slow
def test_under_one_mask_the_backdoored_class_is_opened_most(backdoored: Classifier, tiny_images: ImageData) -> None:
    allowed = {target: (tiny_images.labels != target).nonzero().squeeze(1) for target in range(3)}
    settings = ScanSettings(mask_steps=60, mask_images_per_step=16)
    mask = torch.zeros(16, 16)
    mask[5:8, 5:8] = 1
    found = strongest_patterns(backdoored, tiny_images.images, allowed, mask, settings, restarts=2, rng=seeded())
    assert [len(each.strengths) for each in found] == [2, 2, 2]
    assert found[0].strength > 0.9 > max(found[1].strength, found[2].strength)
    shown = found[0].strongest.applied(0, tiny_images.images[allowed[0]])
    assert (predict(backdoored, shown).argmax(1) == 0).double().mean() > 0.9
    assert torch.equal(shown[:, :, :5], tiny_images.images[allowed[0]][:, :, :5] / 255), "nothing changes elsewhere"


def test_a_mask_of_nothing_leaves_the_images_as_they_are(backdoored: Classifier, tiny_images: ImageData) -> None:
    none = Masks(torch.zeros(1, 16, 16), torch.ones(1, 3, 16, 16))
    torch.testing.assert_close(none.applied(0, tiny_images.images), tiny_images.images / 255)


def test_the_index_is_the_distance_below_the_median_in_deviations() -> None:
    found = anomaly_indices([50.0, 60.0, 70.0, 10.0, 65.0])
    assert found[3] == pytest.approx(50 / (1.4826 * 10))
    assert found[1] == 0 and found[2] < 0
