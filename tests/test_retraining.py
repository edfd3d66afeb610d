"""The defence: retraining on stamped images."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.training import same, seeded, state
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.metrics import evaluate
from untrigger.retraining import retrain
from untrigger.settings.methods import RetrainingSettings
from untrigger.triggers import always, checkerboard

DOSE = RetrainingSettings(epochs=2, batch_size=16, learning_rate=0.02, stamped_share=0.5)


def test_retraining_with_the_true_trigger_closes_the_backdoor_and_leaves_the_given_classifier(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    before = state(backdoored)
    settings = RetrainingSettings(epochs=15, batch_size=16, learning_rate=0.02, stamped_share=0.5)
    data = (tiny_images.images, tiny_images.labels)
    cured = retrain(backdoored, *data, always(checkerboard()), settings, rng=seeded(4))
    rates = evaluate(cured, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.2
    assert rates.clean_accuracy > 0.9
    assert same(state(backdoored), before)


def test_methods_of_one_seed_differ_in_nothing_but_the_trigger(backdoored: Classifier, tiny_images: ImageData) -> None:
    trigger = checkerboard()

    def of_much_randomness(count: int, rng: torch.Generator) -> Tensor:
        torch.rand(1000, generator=rng)
        return always(trigger)(count, rng)

    data = (tiny_images.images, tiny_images.labels)
    first, second = (
        state(retrain(backdoored, *data, source, DOSE, rng=seeded(4)))
        for source in (always(trigger), of_much_randomness)
    )
    assert same(first, second)
