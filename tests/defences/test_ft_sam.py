"""FT-SAM: its ascent point, and the step it takes from there."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.support.by_hand import LinearInMeans, with_network
from tests.support.training import same, seeded, state
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.ft_sam import ascent_point, defend
from untrigger.metrics import evaluate
from untrigger.settings.other_defences import FtSamSettings
from untrigger.training import plain_gradient, train
from untrigger.triggers import checkerboard


def test_the_ascent_point_is_that_of_the_paper() -> None:
    """w + rho T^2 g / ||T g|| with T = diag |w|: here T g = (6, 0, 8), so the norm over both weights is 10."""
    first, second = ascent_point(
        [torch.tensor([2.0, -1.0]), torch.tensor([[-4.0]])],
        [torch.tensor([3.0, 0.0]), torch.tensor([[2.0]])],
        rho=5.0,
    )
    torch.testing.assert_close(first, torch.tensor([2.0 + 5 * 4 * 3 / 10, -1.0]))
    torch.testing.assert_close(second, torch.tensor([[-4.0 + 5 * 16 * 2 / 10]]))


def test_no_other_step_of_that_size_raises_a_linear_loss_more() -> None:
    rng = seeded(3)
    weight, slope = (torch.randn(6, generator=rng) for _ in range(2))
    step = ascent_point([weight], [slope], rho=0.7)[0] - weight
    assert (step / weight.abs()).norm() == pytest.approx(0.7)
    others = torch.randn(500, 6, generator=rng)
    others = weight.abs() * 0.7 * others / others.norm(dim=1, keepdim=True)
    assert (others @ slope).max() <= step @ slope + 1e-6


def test_a_step_of_training_follows_the_gradient_at_the_ascent_point(tiny_images: ImageData) -> None:
    """One batch, one step of SGD without momentum: w - rate * grad(w + e)."""
    network = with_network(LinearInMeans([[1.0, -2.0, 0.5], [0.3, 1.5, -1.0], [2.0, 0.2, 0.1]]), 3)
    settings = FtSamSettings(epochs=1, batch_size=120, learning_rate=0.5, momentum=0.0, rho=0.3)
    tuned = defend(network, tiny_images, settings, rng=seeded())

    by_hand = copy.deepcopy(network)
    (weight,) = by_hand.parameters()
    before = weight.detach().clone()
    images = tiny_images.images / 255
    plain_gradient(by_hand, images, tiny_images.labels)
    assert weight.grad is not None
    weight.data = before + 0.3 * before**2 * weight.grad / (before * weight.grad).norm()
    plain_gradient(by_hand, images, tiny_images.labels)
    torch.testing.assert_close(next(tuned.parameters()), before - 0.5 * weight.grad)


def test_a_radius_of_next_to_nothing_is_plain_fine_tuning_even_in_its_batch_norms(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    settings = FtSamSettings(epochs=1, batch_size=32, rho=1e-12)
    plain = copy.deepcopy(backdoored)
    train(plain, tiny_images.images, tiny_images.labels, settings, rng=seeded())
    tuned = defend(backdoored, tiny_images, settings, rng=seeded())
    for ours, others in zip(state(tuned), state(plain), strict=True):
        if ours.is_floating_point():  # passes are counted, too
            torch.testing.assert_close(ours, others)


def test_the_backdoor_closes_and_the_given_classifier_stays(backdoored: Classifier, tiny_images: ImageData) -> None:
    before = state(backdoored)
    data = (tiny_images.images, tiny_images.labels)
    settings = FtSamSettings(epochs=10, batch_size=16, learning_rate=0.05)
    tuned, again = (defend(backdoored, tiny_images, settings, rng=seeded()) for _ in range(2))
    rates = evaluate(tuned, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.5 and rates.clean_accuracy > 0.9
    assert same(state(tuned), state(again)) and same(state(backdoored), before)
