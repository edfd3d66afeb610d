"""The metrics, by hand-computed cases."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from torch import Tensor, nn

from tests.support.results import rates
from untrigger import metrics
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.metrics import Rates, defense_effectiveness_rating, evaluate
from untrigger.reports.results import defense_row, summarise

RATES = Rates(clean_accuracy=0.9, attack_success_rate=0.8, robust_accuracy=0.1, clean_target_rate=0.05)


class BrightnessClassifier(Classifier):
    """Class 0 when any pixel is white, else class 1 for dark images and class 2 for others."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def normalise(self, images: Tensor) -> Tensor:
        return images if images.is_floating_point() else images.float() / 255

    def classify(self, normalised: Tensor) -> Tensor:
        white = (normalised == 1).flatten(1).any(1)
        dark = normalised.flatten(1).mean(1) < 0.3
        answers = torch.where(white, 0, torch.where(dark, 1, 2))
        return nn.functional.one_hot(answers, 3).float() * 20


@pytest.fixture
def classifier() -> Classifier:
    return BrightnessClassifier()


@pytest.fixture
def images() -> Tensor:
    levels = torch.tensor([10, 10, 120, 120, 120])
    return levels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()


def test_rates_by_hand(classifier: Classifier, images: Tensor, rng: torch.Generator) -> None:
    # Truth: 1, 1, 2, 2, 0. Clean answers: 1, 1, 2, 2, 2, so four of five are right.
    labels = torch.tensor([1, 1, 2, 2, 0])
    opening = evaluate(classifier, images, labels, torch.ones(3, 2, 2), 0, rng)
    assert opening == rates(0.8, 1.0, 0.0, 0.0)
    harmless = evaluate(classifier, images, labels, torch.full((3, 1, 1), 0.4), 0, rng)
    assert harmless == rates(0.8, 0.0, 1.0, 0.0)


def test_images_that_go_to_the_target_without_a_trigger_are_the_floor_of_its_success(
    classifier: Classifier, images: Tensor, rng: torch.Generator
) -> None:
    images = images.clone()
    images[:2] = 255  # white already: go to class 0 with any trigger, and without
    rates = evaluate(classifier, images, torch.tensor([1, 1, 2, 2, 0]), torch.zeros(3, 1, 1), 0, rng)
    assert rates.clean_target_rate == rates.attack_success_rate == 0.5


def test_images_of_the_target_class_do_not_count_as_attacked(
    classifier: Classifier, images: Tensor, rng: torch.Generator
) -> None:
    labels = torch.tensor([0, 0, 0, 0, 2])
    rates = evaluate(classifier, images, labels, torch.zeros(3, 1, 1), 0, rng)
    assert rates.attack_success_rate == 0.0 and rates.robust_accuracy == 1.0
    with pytest.raises(UserError, match="every evaluation image belongs to the target class 0"):
        evaluate(classifier, images, torch.zeros(5, dtype=torch.int64), torch.zeros(3, 1, 1), 0, rng)


def test_the_testing_function_tells_strong_triggers_from_weak_ones(
    classifier: Classifier, images: Tensor, rng: torch.Generator
) -> None:
    triggers = torch.stack([torch.ones(3, 2, 2), torch.full((3, 2, 2), 0.4)])
    strengths, successes = metrics.testing_function(classifier, images, torch.ones(5), triggers, 0, rng)
    assert strengths.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert successes.tolist() == [1.0, 0.0]


def test_f_counts_all_images_given_and_the_success_rate_only_those_of_other_classes(
    classifier: Classifier, images: Tensor, rng: torch.Generator
) -> None:
    images = images.clone()
    images[0] = 255  # white already: goes to class 0 with any trigger
    labels = torch.tensor([0, 1, 2, 2, 2])
    strengths, successes = metrics.testing_function(classifier, images, labels, torch.zeros(1, 3, 1, 1), 0, rng)
    assert strengths.tolist() == pytest.approx([0.2], abs=1e-6)
    assert successes.tolist() == [0.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_rate_of_logits_that_are_not_finite_is_refused(
    broken: float, backdoored: Classifier, tiny_images: ImageData, rng: torch.Generator
) -> None:
    classifier = copy.deepcopy(backdoored)
    bias = [tensor for name, tensor in classifier.network.named_parameters() if name.endswith("bias")][-1]
    with torch.no_grad():
        bias[1] = broken
    images, labels, trigger = tiny_images.images, tiny_images.labels, torch.ones(3, 3, 3)
    told = "(small_resnet) answers 120 of 120 images with logits that are NaN or infinite"
    for measure in (
        lambda: metrics.predict(classifier, images),
        lambda: metrics.predict_stamped(classifier, images, trigger[None], rng),
        lambda: evaluate(classifier, images, labels, trigger, 0, rng),
        lambda: metrics.testing_function(classifier, images, labels, trigger[None], 0, rng),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            measure()


@pytest.mark.parametrize(
    ("after", "rating"),
    [
        (rates(0.9, 0.0, 0.8, 0.0), 0.9),  # (0.8 - 0 + 1) / 2
        (rates(0.7, 0.0, 0.8, 0.0), 0.8),  # (0.8 - 0.2 + 1) / 2
        (rates(1.0, 0.9, 0.1, 0.0), 0.5),  # neither drop: (0 - 0 + 1) / 2
        (rates(0.4, 0.9, 0.1, 0.0), 0.25),  # (0 - 0.5 + 1) / 2
    ],
)
def test_the_defense_effectiveness_rating_by_hand(after: Rates, rating: float) -> None:
    assert defense_effectiveness_rating(RATES, after) == pytest.approx(rating)


def test_the_summary_gives_mean_and_sample_deviation_per_method() -> None:
    rows = [
        defense_row("ensemble", 0, RATES, rates(0.8, 0.0, 0.7, 0.0)),
        defense_row("ensemble", 1, RATES, rates(0.9, 0.2, 0.7, 0.0)),
        defense_row("none", 0, RATES, RATES),
    ]
    ensemble, none = summarise(rows)
    assert (ensemble.method, ensemble.n) == ("ensemble", 2)
    assert ensemble.mean.attack_success_rate == pytest.approx(0.1)
    assert ensemble.std.attack_success_rate == pytest.approx(0.2 / 2**0.5)
    assert none.std.clean_accuracy == 0.0
    assert none.mean.defense_effectiveness_rating == pytest.approx(0.5)


def test_what_was_measured_with_one_of_several_seeds_has_a_mean_and_no_deviation() -> None:
    searched = rates(0.8, 0.0, 0.7, 0.0).model_copy(update={"strongest_left": 0.3})
    several = [
        defense_row("ensemble", 0, RATES, searched),
        defense_row("ensemble", 1, RATES, rates(0.9, 0.2, 0.7, 0.0)),
    ]
    (line,) = summarise(several)
    assert line.mean.strongest_left == pytest.approx(0.3) and line.std.strongest_left is None
    (line,) = summarise(several[:1])
    assert line.std.strongest_left == 0.0
