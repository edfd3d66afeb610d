"""I-BAU: the search for what harms most, and the gradient through it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.support.by_hand import LinearInMeans, with_network
from tests.support.training import same, seeded, state
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.i_bau import defend, implicit_gradient, worst_perturbation
from untrigger.metrics import evaluate
from untrigger.settings.other_defences import IBauSettings
from untrigger.triggers import checkerboard

PENALTY = 0.5


def harm(weight: Tensor, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """The loss of a linear network with tanh units under a perturbation, float (4,)."""
    return nn.functional.cross_entropy(torch.tanh(images + delta) @ weight.T, labels)


def test_the_implicit_gradient_is_that_of_the_loss_at_the_maximum_as_finite_differences_find_it() -> None:
    """Search and loss look at different images, so that the loss still changes with the perturbation."""
    rng = seeded(5)
    images = torch.randn(2, 12, 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(3, (2, 12), generator=rng)
    start = torch.randn(3, 4, generator=rng, dtype=torch.float64)

    def inner(weight: Tensor, delta: Tensor) -> Tensor:
        return harm(weight, images[0], labels[0], delta) - PENALTY * delta.square().sum()

    def maximum(weight: Tensor) -> Tensor:
        delta = torch.zeros(4, dtype=torch.float64)
        for _ in range(100):
            (slope,) = torch.autograd.grad(inner(weight, delta.requires_grad_()), delta)
            delta = (delta + 0.3 * slope).detach()
        return delta

    def loss(weight: Tensor) -> float:
        return harm(weight, images[1], labels[1], maximum(weight)).item()

    weight = start.clone().requires_grad_()
    searched = (partial(inner, weight), partial(harm, weight, images[1], labels[1]), maximum(weight), [weight])
    told, (found,) = implicit_gradient(*searched, rate=0.3, iterations=100)
    assert told.item() == pytest.approx(loss(start))
    steps = 1e-5 * torch.eye(12, dtype=torch.float64).view(12, 3, 4)
    differences = [(loss(start + step) - loss(start - step)) / 2e-5 for step in steps]
    assert found.flatten().tolist() == pytest.approx(differences, rel=1e-4, abs=1e-6)
    _, (direct,) = implicit_gradient(*searched, rate=0.3, iterations=0)
    assert direct.flatten().tolist() != pytest.approx(differences, rel=0.01), "what goes through the maximum counts"


def test_the_worst_perturbation_raises_the_loss_and_keeps_to_its_radius(tiny_images: ImageData) -> None:
    """The classes are told by their dominant channel, which a perturbation can outdo."""
    classifier = with_network(LinearInMeans([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]), 3)
    settings = IBauSettings(batch_size=40, radius=2.0, ascent_rate=1000.0)
    delta = worst_perturbation(classifier, tiny_images, settings, rng=seeded())
    assert delta.norm() == pytest.approx(2.0)
    images = tiny_images.images / 255
    losses = [nn.functional.cross_entropy(classifier(images + add), tiny_images.labels) for add in (0 * delta, delta)]
    assert losses[1] > losses[0]


def test_the_backdoor_closes_and_the_given_classifier_stays(backdoored: Classifier, tiny_images: ImageData) -> None:
    before = state(backdoored)
    data = (tiny_images.images, tiny_images.labels)
    settings = IBauSettings(batch_size=16, radius=3.0, learning_rate=2e-3)
    told: list[dict[str, float]] = []
    tuned = defend(backdoored, tiny_images, settings, rng=seeded(), on_epoch=lambda _, metrics: told.append(metrics))
    again = defend(backdoored, tiny_images, settings, rng=seeded())
    rates = evaluate(tuned, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.5 and rates.clean_accuracy > 0.9
    assert len(told) == settings.rounds and all(metrics["norm"] <= settings.radius + 1e-4 for metrics in told)
    assert same(state(tuned), state(again)) and same(state(backdoored), before)
