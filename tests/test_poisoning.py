"""The attack: stamping batches, and the backdoor that it plants."""

from __future__ import annotations

import pytest
import torch

from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import evaluate
from untrigger.poisoning import stamping
from untrigger.triggers import always, checkerboard


def test_stamping_poisons_the_stated_share_and_relabels_only_those(rng: torch.Generator) -> None:
    images, labels = torch.zeros(4000, 3, 8, 8), torch.ones(4000, dtype=torch.int64)
    stamped, relabelled = stamping(always(torch.ones(3, 3, 3)), 0.25, relabel=0)(images, labels, rng)
    changed = stamped.flatten(1).any(1)
    assert changed.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(relabelled == 0, changed)
    stamped, kept = stamping(always(torch.ones(3, 3, 3)), 0.25)(images, labels, rng)
    assert stamped.any() and torch.equal(kept, labels)
    assert stamping(always(torch.ones(3, 3, 3)), 0.0, relabel=0)(images, labels, rng)[0] is images


def test_the_same_images_are_stamped_at_the_same_places_whatever_the_triggers() -> None:
    images, labels = torch.zeros(400, 3, 8, 8), torch.ones(400, dtype=torch.int64)
    sources = (
        always(torch.ones(3, 3, 3)),
        lambda count, rng: torch.rand(count, 3, 3, 3, generator=rng).clamp_min(0.1),
    )
    first, second = (stamping(source, 0.25)(images, labels, seeded(1))[0] for source in sources)
    assert torch.equal(first > 0, second > 0) and not torch.equal(first, second)


def test_poison_training_plants_a_backdoor_and_keeps_clean_accuracy(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    rates = evaluate(backdoored, tiny_images.images, tiny_images.labels, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate > 0.9
    assert rates.clean_accuracy > 0.9
