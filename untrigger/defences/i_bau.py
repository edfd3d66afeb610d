"""I-BAU: the perturbation that does most harm to all images is searched for and unlearnt, by the implicit gradient.

Source: Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022, section 4 and
algorithm 1. As in the authors' code the search pays for the perturbation's squared norm, which makes its maximum one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.seeding import forked
from untrigger.settings.other_defences import IBauSettings
from untrigger.training import OnEpoch

Objective = Callable[[Tensor], Tensor]
"""From a perturbation, float (3, h, w), to a number; it depends on the weights, too."""


def defend(
    classifier: Classifier,
    data: ImageData,
    settings: IBauSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> Classifier:
    """A copy of `classifier` that keeps its answers on `data` under the perturbation that harms it most.

    In every round one is searched for from nothing, in one pass over the images, and another pass descends the loss
    under it by `implicit_gradient`. Batch norm stays in evaluation mode. `on_epoch` gets each round's `loss` and the
    `norm` of its perturbation.
    """
    tuned = copy.deepcopy(classifier).eval()
    weights = list(tuned.parameters())
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate)
    for number, round_rng in enumerate(forked(rng, *map(str, range(settings.rounds))), start=1):
        delta, losses = worst_perturbation(tuned, data, settings, rng=round_rng), []
        for images, labels in _batches(data, settings.batch_size, round_rng):
            harm = partial(_penalised, partial(_loss, tuned, images, labels), settings.penalty)
            loss, gradients = implicit_gradient(
                harm,
                partial(_loss, tuned, images, labels, share=settings.perturbed_share),
                delta,
                weights,
                rate=settings.fixed_point_rate,
                iterations=settings.fixed_point_iterations,
            )
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimiser.step()
            losses.append(loss)
        if on_epoch is not None:
            on_epoch(number, {"loss": torch.stack(losses).mean().item(), "norm": delta.norm().item()})
    return tuned


def worst_perturbation(
    classifier: Classifier, data: ImageData, settings: IBauSettings, *, rng: torch.Generator
) -> Tensor:
    """The perturbation that harms most, float (3, h, w), by projected gradient ascent in one pass over the images."""
    delta = torch.zeros(data.images.shape[1:], device=data.images.device)
    for images, labels in _batches(data, settings.batch_size, rng):
        gain = _penalised(partial(_loss, classifier, images, labels), settings.penalty, delta.requires_grad_())
        (slope,) = torch.autograd.grad(gain, delta)
        delta = (delta + settings.ascent_rate * slope).detach()
        delta *= settings.radius / delta.norm().clamp_min(settings.radius)
    return delta


def implicit_gradient(
    inner: Objective, outer: Objective, delta: Tensor, weights: Sequence[Tensor], *, rate: float, iterations: int
) -> tuple[Tensor, list[Tensor]]:
    """The loss outer(delta(w)), (), and its gradient in the weights w, where delta(w) maximises `inner`.

    delta(w) is a fixed point of Phi(delta) = delta + rate * d inner / d delta, so that by the implicit function theorem

        d outer(delta(w)) / dw = d outer / dw + (dPhi / dw)^T (I - dPhi / ddelta)^-T  d outer / ddelta,

    where the inverse is applied by so many iterations of v <- (dPhi / ddelta)^T v + d outer / ddelta, from 0.
    Source: equations 4 to 6 of Zeng et al.
    """
    delta = delta.detach().requires_grad_()
    loss = outer(delta)
    at_delta, *direct = torch.autograd.grad(loss, [delta, *weights], materialize_grads=True)
    if not iterations:
        return loss.detach(), direct
    (slope,) = torch.autograd.grad(inner(delta), delta, create_graph=True)
    moved, vector = delta + rate * slope, at_delta
    for _ in range(iterations - 1):
        vector = torch.autograd.grad(moved, delta, vector, retain_graph=True)[0] + at_delta
    through = torch.autograd.grad(moved, weights, vector, materialize_grads=True)
    return loss.detach(), [here + there for here, there in zip(direct, through, strict=True)]


def _loss(classifier: Classifier, images: Tensor, labels: Tensor, delta: Tensor, share: float = 1.0) -> Tensor:
    """The cross-entropy with the first so large a share of the images perturbed, at least one."""
    perturbed = torch.arange(len(images), device=images.device) < max(1, round(share * len(images)))
    return nn.functional.cross_entropy(classifier(images + perturbed[:, None, None, None] * delta), labels)


def _penalised(harm: Objective, penalty: float, delta: Tensor) -> Tensor:
    return harm(delta) - penalty * delta.square().sum()


def _batches(data: ImageData, size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in random order: images, float (b, 3, h, w) in [0, 1], and labels (b,)."""
    for chosen in torch.randperm(len(data), generator=rng).to(data.images.device).split(size):
        yield data.images[chosen].float() / 255, data.labels[chosen]
