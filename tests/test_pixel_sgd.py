"""The search for single triggers."""

from __future__ import annotations

import torch

from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import evaluate
from untrigger.pixel_sgd import reverse_triggers
from untrigger.settings.methods import PixelSgdSettings


def test_reversed_triggers_open_the_backdoor_and_lie_in_range(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = PixelSgdSettings(restarts=3, steps=60, batch_size=64, learning_rate=0.5)
    found: list[int] = []
    triggers = reverse_triggers(
        backdoored,
        tiny_images.images,
        0,
        (3, 3),
        settings,
        rng=seeded(6),
        on_restart=lambda restart, losses: found.append(len(losses)),
    )
    assert triggers.shape == (3, 3, 3, 3)
    assert triggers.min() >= 0 and triggers.max() <= 1
    assert found == [60, 60, 60]
    assert not torch.equal(triggers[0], triggers[1])
    rates = [
        evaluate(backdoored, tiny_images.images, tiny_images.labels, trigger, 0, seeded(9)).attack_success_rate
        for trigger in triggers
    ]
    assert max(rates) > 0.8
