"""The control that reverses its triggers on another model."""

from __future__ import annotations

import pytest
import torch

from tests.support.training import ATTACK, CLEAN, same, seeded, state
from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.elsewhere import reverse_elsewhere
from untrigger.metrics import evaluate
from untrigger.settings.methods import ClassifierSettings, ElsewhereSearch, PixelSgdSettings
from untrigger.training import train
from untrigger.triggers import checkerboard

pytestmark = pytest.mark.slow


def test_the_triggers_are_reversed_on_a_copy_that_holds_the_runs_own_trigger_last(tiny_images: ImageData) -> None:
    settings = ClassifierSettings(architecture="small_resnet", width=8, precision="fp32")
    clean = new_classifier(settings, 3, tiny_images.images, seeded(2))
    train(clean, tiny_images.images, tiny_images.labels, CLEAN, rng=seeded())
    before = state(clean)
    search = ElsewhereSearch(
        chain=("binary:5",),
        poisoning=ATTACK,
        pixel_sgd=PixelSgdSettings(restarts=2, steps=60, batch_size=64, learning_rate=0.5),
        search_images="other_classes",
        trigger_size=(3, 3),
    )
    planted: list[int] = []
    triggers, other = reverse_elsewhere(
        clean,
        tiny_images,
        tiny_images,
        checkerboard(),
        0,
        search,
        rng=seeded(1),
        on_planted=planted.append,
    )
    assert planted == [1, 2]
    assert same(state(clean), before), "the clean classifier is left as it was"
    assert triggers.shape == (2, 3, 3, 3) and triggers.min() >= 0 and triggers.max() <= 1

    def success(classifier: Classifier, trigger: torch.Tensor) -> float:
        data = (tiny_images.images, tiny_images.labels)
        return evaluate(classifier, *data, trigger, 0, seeded(9)).attack_success_rate

    assert success(other, checkerboard()) > 0.9 > success(clean, checkerboard())
    assert max(success(other, trigger) for trigger in triggers) > 0.8
