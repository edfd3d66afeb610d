"""Neural Cleanse as a defence: what is unlearnt, and how."""

from __future__ import annotations

import pytest
import torch

from tests.support.training import same, seeded, state
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.neural_cleanse import defend, flagged
from untrigger.metrics import evaluate
from untrigger.neural_cleanse import Masks, UnderMasks
from untrigger.poisoning import stamping
from untrigger.settings.other_defences import NeuralCleanseSettings
from untrigger.triggers import checkerboard


def masks(*norms: int) -> Masks:
    """Masks of so many pixels each, the patterns of which are all of the value of their number over ten."""
    each = torch.zeros(len(norms), 4, 4)
    for mask, norm in zip(each, norms, strict=True):
        mask.view(-1)[:norm] = 1
    numbers = torch.arange(len(norms)).view(-1, 1, 1, 1) / 10
    return Masks(each, numbers.expand(-1, 3, 4, 4))


def test_the_masks_far_below_the_median_are_flagged_and_the_smallest_where_none_is() -> None:
    assert flagged(masks(12, 13, 2, 14, 3, 13, 12)) == [2, 4]
    assert flagged(masks(12, 11, 13)) == [1]


def test_unlearning_puts_the_stated_share_under_the_masks_and_keeps_the_labels() -> None:
    images, labels = torch.full((4000, 3, 4, 4), 0.9), torch.arange(4000) % 7
    changed, told = stamping(UnderMasks(masks(16, 3, 2).of([1, 2])), share=0.2)(images, labels, seeded())
    assert torch.equal(told, labels)
    corners = changed[:, 0, 0, 0]
    shares = [(corners == value).double().mean().item() for value in (0.1, 0.2)]
    assert sum(shares) == pytest.approx(0.2, abs=0.02) and shares[0] == pytest.approx(0.1, abs=0.02)
    untouched = changed[(corners != 0.1) & (corners != 0.2)]
    assert bool((untouched == 0.9).all())
    under = changed[corners == 0.2]
    assert bool((under.flatten(2)[..., :2] == 0.2).all() and (under.flatten(2)[..., 2:] == 0.9).all())


@pytest.mark.slow
def test_the_backdoor_closes_and_the_given_classifier_stays(backdoored: Classifier, tiny_images: ImageData) -> None:
    before = state(backdoored)
    data = (tiny_images.images, tiny_images.labels)
    settings = NeuralCleanseSettings(mask_steps=100, epochs=5, batch_size=16, learning_rate=0.02)
    tuned, again = (defend(backdoored, tiny_images, settings, rng=seeded()) for _ in range(2))
    rates = evaluate(tuned, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.5 and rates.clean_accuracy > 0.9
    assert same(state(tuned), state(again)) and same(state(backdoored), before)
