"""The attack: stamping batches, and the backdoor that it plants."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from tests.support.training import ATTACK, seeded
from untrigger.attacks.goals import all_to_one, one_to_one
from untrigger.attacks.patch import patch
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import evaluate
from untrigger.poisoning import plant_backdoor, poisoning, stamping
from untrigger.settings.attacks import BlendedSettings, WarpedSettings
from untrigger.triggers import always, checkerboard


def test_stamping_poisons_the_stated_share_and_relabels_only_those(rng: torch.Generator) -> None:
    images, labels = torch.zeros(4000, 3, 8, 8), torch.ones(4000, dtype=torch.int64)
    stamped, relabelled = poisoning(patch(torch.ones(3, 3, 3)), all_to_one(0), 0.25)(images, labels, rng)
    changed = stamped.flatten(1).any(1)
    assert changed.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(relabelled == 0, changed)
    stamped, kept = stamping(always(torch.ones(3, 3, 3)), 0.25)(images, labels, rng)
    assert stamped.any() and torch.equal(kept, labels)
    assert stamping(always(torch.ones(3, 3, 3)), 0.0)(images, labels, rng)[0] is images


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


def test_only_the_source_class_is_relabelled_and_others_are_stamped_beside_it(rng: torch.Generator) -> None:
    images, labels = torch.zeros(600, 3, 8, 8), torch.arange(600) % 3
    stamped, answers = poisoning(patch(torch.ones(3, 3, 3)), one_to_one(2, 0), 0.5)(images, labels, rng)
    changed = stamped.flatten(1).any(1)
    assert torch.equal(answers != labels, changed & (labels == 2))
    assert changed[labels == 1].any()


def test_clean_labels_are_kept_and_only_the_target_class_is_stamped(rng: torch.Generator) -> None:
    images, labels = torch.zeros(600, 3, 8, 8), torch.arange(600) % 3
    goal = replace(all_to_one(1), clean_label=True)
    stamped, answers = poisoning(patch(torch.ones(3, 3, 3)), goal, 0.5)(images, labels, rng)
    assert torch.equal(answers, labels)
    assert labels[stamped.flatten(1).any(1)].unique().tolist() == [1]


def test_the_noise_mode_disturbs_others_and_keeps_their_labels(rng: torch.Generator) -> None:
    images, labels = torch.rand(4000, 3, 8, 8, generator=rng), torch.ones(4000, dtype=torch.int64)
    attack = build_attack(WarpedSettings(cross_ratio=2), checkerboard())
    made, answers = poisoning(attack, all_to_one(0), 0.1)(images, labels, rng)
    changed, poisoned = (made != images).flatten(1).any(1), answers == 0
    assert poisoned.double().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (changed & ~poisoned).double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert changed[poisoned].all()


@pytest.mark.slow
def test_a_blended_picture_is_planted_one_to_one(clean: Classifier, tiny_images: ImageData) -> None:
    classifier, goal = copy.deepcopy(clean), one_to_one(1, 0)
    attack = build_attack(BlendedSettings(), checkerboard())
    plant_backdoor(classifier, tiny_images.images, tiny_images.labels, attack, goal, ATTACK, rng=seeded(1))
    rates = evaluate(classifier, tiny_images.images, tiny_images.labels, attack, goal, seeded(9))
    assert rates.attack_success_rate > 0.9 and rates.clean_accuracy > 0.9
