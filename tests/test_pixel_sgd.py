"""The search for single triggers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.support.interruptions import interrupted_after
from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import evaluate
from untrigger.pixel_sgd import reverse_triggers
from untrigger.settings.methods import PixelSgdSettings
from untrigger.snapshots import UNKEPT, Snapshot


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


def test_a_search_that_was_interrupted_ends_as_an_undisturbed_one(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    def reversed_with(snapshot: Snapshot, on_restart: Callable[[int], None]) -> Tensor:
        return reverse_triggers(
            backdoored,
            tiny_images.images,
            0,
            (3, 3),
            PixelSgdSettings(restarts=3, steps=4, batch_size=16),
            rng=seeded(6),
            on_restart=lambda restart, _: on_restart(restart),
            snapshot=snapshot,
        )

    assert torch.equal(interrupted_after(reversed_with, 2), reversed_with(UNKEPT, lambda _: None))
