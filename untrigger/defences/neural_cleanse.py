"""Neural Cleanse as a defence: the mask and pattern of each class, and unlearning of those that stand out.

Source: Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
sections IV (the index) and VI (unlearning).
"""

from __future__ import annotations

import copy

import torch

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.neural_cleanse import FLAGGED, Masks, UnderMasks, anomaly_indices, reverse_masks
from untrigger.poisoning import stamping
from untrigger.seeding import forked
from untrigger.settings.other_defences import NeuralCleanseSettings
from untrigger.training import OnEpoch, train


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
    unlearnt = UnderMasks(masks.of(flagged(masks)).to(data.images.device))
    change = stamping(unlearnt, settings.stamped_share)
    tuned = copy.deepcopy(classifier)
    train(tuned, data.images, data.labels, settings, rng=training_rng, change_batch=change, on_epoch=on_epoch)
    return tuned


def flagged(masks: Masks) -> list[int]:
    """The numbers of the masks whose index is above 2; that of the smallest one where there is none."""
    norms = masks.norms.tolist()
    found = [number for number, index in enumerate(anomaly_indices(norms)) if index > FLAGGED]
    return found or [norms.index(min(norms))]
