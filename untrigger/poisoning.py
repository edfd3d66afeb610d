"""The attack: a backdoor planted by training on with a share of every batch poisoned."""

from __future__ import annotations

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.seeding import forked, moved
from untrigger.settings.methods import PoisoningSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.training import BatchChange, OnEpoch, train
from untrigger.triggers import TriggerSource, always, stamp


def plant_backdoor(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    trigger: Tensor,
    target_class: int,
    settings: PoisoningSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> None:
    """Train `classifier` on, in place, until `trigger`, float (3, th, tw) in [0, 1], sends images to `target_class`.

    images: uint8 (n, 3, h, w), labels: int64 (n,). Each image of a batch is poisoned with the probability
    `settings.poisoned_share`: stamped at a position of its own and relabelled. Source: section 5.1 of the paper.
    """
    poison = stamping(always(trigger.to(images.device)), settings.poisoned_share, relabel=target_class)
    train(classifier, images, labels, settings, rng=rng, change_batch=poison, on_epoch=on_epoch, snapshot=snapshot)


def stamping(source: TriggerSource, share: float, relabel: int | None = None) -> BatchChange:
    """Stamp each image of a batch with the probability `share`; `relabel` them, or keep their labels when None.

    Which images, the triggers and the places have a stream each: the same randomness stamps the same images at the same
    places whatever `source` draws.
    """

    def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        choice_rng, trigger_rng, place_rng = forked(rng, "choice", "triggers", "places")
        chosen = (torch.rand(len(images), generator=choice_rng) < share).nonzero().squeeze(1)
        if not len(chosen):
            return images, labels
        chosen = moved(chosen, images.device)
        triggers = source(len(chosen), trigger_rng).to(images.device)
        images = images.index_copy(0, chosen, stamp(images[chosen], triggers, place_rng))
        if relabel is not None:
            labels = labels.index_fill(0, chosen, relabel)
        return images, labels

    return change
