"""Fine-pruning: channels that clean images leave asleep, where a backdoor may hide, are cut off; then fine-tuning.

Source: Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
RAID 2018, sections 3.1 and 3.3.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.metrics import predict
from untrigger.settings.other_defences import FinePruningSettings
from untrigger.training import Gradient, OnEpoch, plain_gradient, train


def defend(
    classifier: Classifier,
    data: ImageData,
    settings: FinePruningSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> Classifier:
    """A copy of `classifier` without the channels that clean images need least, fine-tuned on `data`.

    Channels are those of the last feature map, which the last linear layer reads: what the last convolution, and a
    shortcut around it, give. One that is cut off stays so in fine-tuning. UserError where there is no linear layer.
    """
    tuned = copy.deepcopy(classifier)
    last = last_layer(tuned)
    features = read_features(tuned, last, data.images)
    pruned = prunable(features, data.labels, last, settings.accuracy_drop)
    with torch.no_grad():
        last.weight[:, pruned] = 0
    gradient = _kept_pruned(last, pruned)
    train(tuned, data.images, data.labels, settings, rng=rng, gradient=gradient, on_epoch=on_epoch)
    return tuned


def last_layer(classifier: Classifier) -> nn.Linear:
    """The last linear layer of the network; UserError where there is none."""
    linear = [part for part in classifier.network.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UserError(
            f"fine_pruning needs a network that ends with a linear layer, and {classifier.settings.architecture} has "
            "none: leave it out of the methods"
        )
    return linear[-1]


def read_features(classifier: Classifier, last: nn.Linear, images: Tensor) -> Tensor:
    """What the last layer reads of images, uint8 (n, 3, h, w): the activation of each channel, float (n, channels)."""
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    try:
        predict(classifier, images)
    finally:
        handle.remove()
    return torch.cat(seen)


def prunable(features: Tensor, labels: Tensor, last: nn.Linear, accuracy_drop: float) -> Tensor:
    """The channels to cut off, int64 (k,): in the order of their mean activation, as long as the accuracy allows it.

    features: float (n, channels), labels: int64 (n,). The accuracy on these images falls by `accuracy_drop` at most.
    """
    order = features.mean(0).argsort(stable=True)
    weight, bias = last.weight.detach().float().clone(), last.bias
    before = _accuracy(features, labels, weight, bias)
    for number, channel in enumerate(order):
        weight[:, channel] = 0
        if before - _accuracy(features, labels, weight, bias) > accuracy_drop:
            return order[:number]
    return order


def _accuracy(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None) -> float:
    with torch.no_grad():
        answers = nn.functional.linear(features, weight, bias).argmax(1)
    return (answers == labels).double().mean().item()


def _kept_pruned(last: nn.Linear, pruned: Tensor) -> Gradient:
    """The plain gradient but for what would wake up a pruned channel."""

    def gradient(classifier: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found = plain_gradient(classifier, images, labels)
        if last.weight.grad is not None:
            last.weight.grad[:, pruned] = 0
        return found

    return gradient
