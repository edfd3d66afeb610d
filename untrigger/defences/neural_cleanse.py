"""Neural Cleanse as a defence: the mask and pattern of each class, and unlearning of those that stand out.

Source: Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
sections IV (the index) and VI (unlearning).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.neural_cleanse import FLAGGED, Masks, anomaly_indices, reverse_masks
from untrigger.seeding import forked, moved
from untrigger.settings.other_defences import NeuralCleanseSettings
from untrigger.training import BatchChange, OnEpoch, train


def defend(
    classifier: Classifier,
    data: ImageData,
    settings: NeuralCleanseSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> Classifier:
    """A copy of `classifier`, fine-tuned on `data` with the masks of the flagged classes on a share of the images.

    Masks are searched for on the images of other classes than their own; which class is attacked nobody tells.
    """
    search_rng, training_rng = forked(rng, "masks", "unlearning")
    allowed = {number: (data.labels != number).nonzero().squeeze(1).cpu() for number in range(classifier.classes)}
    masks = reverse_masks(classifier, data.images, allowed, settings, rng=search_rng)
    change = unlearning(masks.to(data.images.device), flagged(masks), settings.stamped_share)
    tuned = copy.deepcopy(classifier)
    train(tuned, data.images, data.labels, settings, rng=training_rng, change_batch=change, on_epoch=on_epoch)
    return tuned


def flagged(masks: Masks) -> list[int]:
    """The numbers of the masks whose index is above 2; that of the smallest one where there is none."""
    norms = masks.norms.tolist()
    found = [number for number, index in enumerate(anomaly_indices(norms)) if index > FLAGGED]
    return found or [norms.index(min(norms))]


def unlearning(masks: Masks, numbers: list[int], share: float) -> BatchChange:
    """Puts each image with the probability `share` under one of the masks of these numbers; labels stay the true ones.

    Source: section VI.B of Wang et al., where the share is 20 %.
    """

    def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        choice_rng, mask_rng = forked(rng, "choice", "masks")
        covered = torch.rand(len(images), generator=choice_rng) < share
        drawn = torch.tensor(numbers)[torch.randint(len(numbers), (len(images),), generator=mask_rng)]
        under = masks.applied(moved(drawn, images.device), images)
        return torch.where(moved(covered, images.device)[:, None, None, None], under, images), labels

    return change
