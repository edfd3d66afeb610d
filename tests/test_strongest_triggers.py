"""The search for the strongest triggers that are left."""

from __future__ import annotations

import pytest
import torch

from tests.support.red_patches import red_patch_judge
from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.judge import new_judge
from untrigger.settings.methods import StrongestLeftSettings
from untrigger.strongest_triggers import find_strongest
from untrigger.triggers import checkerboard

SETTINGS = StrongestLeftSettings(restarts=4, steps=60, images_per_step=8)


def test_where_the_strongest_trigger_is_known_every_restart_finds_it(tiny_images: ImageData) -> None:
    judge = red_patch_judge(tiny_images)
    found = find_strongest(judge, SETTINGS, rng=seeded(1))
    assert found.triggers[:, 0].min() > 0.99, "F rises with the red pixels, and with nothing else"
    red = torch.zeros(1, 3, 3, 3)
    red[:, 0] = 1
    assert found.strengths.tolist() == pytest.approx([judge.strengths(red).item()] * 4, abs=1e-3)


def test_what_is_found_in_a_backdoored_classifier_is_as_strong_as_the_attackers_trigger(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    judge = new_judge(backdoored, tiny_images.for_search(0, "other_classes").images, 0, (3, 3), count=32, rng=seeded(3))
    found = find_strongest(judge, SETTINGS, rng=seeded(1))
    assert found.triggers.shape == (4, 3, 3, 3)
    assert found.triggers.min() >= 0 and found.triggers.max() <= 1
    assert found.strongest_F >= judge.strengths(checkerboard()[None]).item() - 0.02


def test_triggers_come_strongest_first_and_those_above_a_level_are_told_apart(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    judge = new_judge(backdoored, tiny_images.for_search(0, "other_classes").images, 0, (3, 3), count=32, rng=seeded(3))
    settings = SETTINGS.model_copy(update={"steps": 3})
    found = find_strongest(judge, settings, rng=seeded(1))
    strengths = found.strengths.tolist()
    assert strengths == sorted(strengths, reverse=True) and strengths[0] > strengths[-1]
    assert strengths == pytest.approx(judge.strengths(found.triggers).tolist(), abs=1e-6)
    assert torch.equal(found.above(strengths[1]), found.triggers[:1]), "above, not at, the level"
    assert len(found.above(strengths[0])) == 0
