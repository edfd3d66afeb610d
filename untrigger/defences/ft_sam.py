"""FT-SAM: fine-tuning that descends where the loss around the weights is worst.

Source: Zhu et al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV 2023,
section 3; the ascent step is that of adaptive SAM (Kwon et al., ICML 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.settings.other_defences import FtSamSettings
from untrigger.training import OnEpoch, plain_gradient, train

FLAT = 1e-12
"""Added to the norm of a gradient: keeps the step finite where there is none."""


def defend(
    classifier: Classifier,
    data: ImageData,
    settings: FtSamSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> Classifier:
    """A copy of `classifier`, fine-tuned on `data`: each step follows the gradient at `ascent_point`.

    Two passes forward and two back for each image of an epoch. Batch norm takes note of the first alone.
    """
    tuned = copy.deepcopy(classifier)
    gradient = partial(_sharp_gradient, rho=settings.rho)
    train(tuned, data.images, data.labels, settings, rng=rng, gradient=gradient, on_epoch=on_epoch)
    return tuned


def ascent_point(weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """Where the loss is worst, to first order, among all w + e with ||T^-1 e|| <= rho, where T is the diagonal of |w|.

    That is w + rho T^2 g / ||T g||, the norm over all weights together. Large weights move further, so that the
    radius means the same however a network's layers are scaled. Source: equation 3 of Zhu et al.
    """
    scaled = torch.stack([(weight * slope).norm() for weight, slope in zip(weights, gradients, strict=True)]).norm()
    step = rho / (scaled + FLAT)
    return [weight + step * weight.square() * slope for weight, slope in zip(weights, gradients, strict=True)]


def _sharp_gradient(classifier: Classifier, images: Tensor, labels: Tensor, *, rho: float) -> tuple[Tensor, Tensor]:
    """The gradient at the ascent point, left in the weights as they were; loss and logits are those at the weights."""
    found = plain_gradient(classifier, images, labels)
    weights = [weight for weight in classifier.parameters() if weight.grad is not None]
    before = [weight.detach().clone() for weight in weights]
    _put(weights, ascent_point(before, [weight.grad for weight in weights if weight.grad is not None], rho))
    with _unnoticed(classifier):
        plain_gradient(classifier, images, labels)
    _put(weights, before)
    return found


@torch.no_grad()
def _put(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


@contextmanager
def _unnoticed(classifier: Classifier) -> Iterator[None]:
    """Batch norms leave their statistics alone in this block: they belong to the weights, not to the ascent point."""
    norms = [part for part in classifier.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
