"""The defence: retrain the classifier on clean images with triggers stamped and the true labels kept."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.poisoning import stamping
from untrigger.settings.base import Stored
from untrigger.settings.methods import RetrainingSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.training import Curve, OnEpoch, train
from untrigger.triggers import TriggerSource


class RetrainingRecord(Stored):
    """The retrainings with one method: their seeds, and the epochs of each (none where nothing was trained)."""

    FILE = "retraining.json"

    method: str
    seeds: tuple[int, ...]
    curves: dict[int, Curve]


def retrain(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    triggers: TriggerSource | None,
    settings: RetrainingSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> Classifier:
    """Teach a copy of `classifier` to ignore `triggers`: stamp them on clean images, keep the true labels, train on.

    images: uint8 (n, 3, h, w) with labels int64 (n,), the defender's clean data. `triggers` is asked for new ones in
    every batch; None means plain fine-tuning. Source: poster, "Backdoor Defense"; section 4.3 of the paper.
    """
    retrained = copy.deepcopy(classifier)
    change = None if triggers is None else stamping(triggers, settings.stamped_share)
    train(retrained, images, labels, settings, rng=rng, change_batch=change, on_epoch=on_epoch, snapshot=snapshot)
    return retrained
