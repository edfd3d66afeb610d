"""The defence: retrain the classifier on clean images with triggers stamped and the true labels kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.judge import judge_of_run
from untrigger.poisoning import stamping
from untrigger.settings.base import Sparse, Stored
from untrigger.settings.methods import RetrainingSettings, StampingSettings, StrongestLeftSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.strongest_triggers import FoundTriggers, find_strongest
from untrigger.training import Curve, OnEpoch, train
from untrigger.triggers import TriggerSource, either, one_of

Search = Callable[[Classifier, torch.Generator], FoundTriggers]
"""Finds the strongest triggers that are left in a classifier."""

OnRound = Callable[[int, float], None]
"""Called after each round with its number, from 1, and the F of the strongest trigger that was found after it."""

OfRound = Callable[[int], Snapshot]
"""The snapshot of the training of a round, by its number."""


class RetrainingRecord(Sparse, Stored):
    """The retrainings with one method: their seeds, and the epochs of each (none where nothing was trained).

    strongest_F: of each seed that was retrained in rounds, the F of the strongest trigger found after each round.
    """

    FILE = "retraining.json"

    method: str
    seeds: tuple[int, ...]
    curves: dict[int, Curve]
    strongest_F: dict[int, tuple[float, ...]] | None = None


def retrain(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    triggers: TriggerSource | Attack | None,
    settings: StampingSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> Classifier:
    """Teach a copy of `classifier` to ignore `triggers`: stamp them on clean images, keep the true labels, train on.

    images: uint8 (n, 3, h, w) with labels int64 (n,), the defender's clean data. `triggers` is asked for new ones in
    every batch; an attack stamps by its own function; None means plain fine-tuning. Source: poster, "Backdoor Defense";
    section 4.3 of the paper.
    """
    retrained = copy.deepcopy(classifier)
    change = None if triggers is None else stamping(triggers, settings.stamped_share)
    train(retrained, images, labels, settings, rng=rng, change_batch=change, on_epoch=on_epoch, snapshot=snapshot)
    return retrained


def goes_in_rounds(triggers: TriggerSource | Attack | None) -> TypeGuard[TriggerSource]:
    """Whether rounds can stamp what they find beside these; not beside an attack's own function, nor beside nothing."""
    return not (triggers is None or isinstance(triggers, Attack))


def retrain_in_rounds(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    triggers: TriggerSource | Attack | None,
    settings: RetrainingSettings,
    search: Search,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
    on_round: OnRound | None = None,
    snapshot: OfRound = lambda _: UNKEPT,
) -> Classifier:
    """Retrain, search for what is left, and retrain on with it, `settings.rounds` times at most.

    As `retrain`; epochs are counted on through the rounds. After each round `search` gives the strongest triggers left.
    Those with F above `settings.round_level` are stamped in the next round, and all later ones, on half of the images
    that carry a trigger, the method's own on the other half; where there are none, that round was the last. That
    nothing is found is a bound by search, not a proof. Plain fine-tuning, an attack's own function, and a single round
    search for nothing.
    """
    if not goes_in_rounds(triggers) or settings.rounds == 1:
        return retrain(classifier, images, labels, triggers, settings, rng=rng, on_epoch=on_epoch, snapshot=snapshot(1))
    source = triggers
    left: list[Tensor] = []
    for number in range(1, settings.rounds + 1):
        counted = None if on_epoch is None else _counted_on(on_epoch, (number - 1) * settings.epochs)
        classifier = retrain(
            classifier, images, labels, source, settings, rng=rng, on_epoch=counted, snapshot=snapshot(number)
        )
        found = search(classifier, rng)
        if on_round is not None:
            on_round(number, found.strongest_F)
        if found.strongest_F <= settings.round_level:
            break
        left.append(found.above(settings.round_level))
        source = either(triggers, one_of(torch.cat(left)))
    return classifier


def search_of_run(
    data: ImageData, settings: StrongestLeftSettings, target_class: int, size: tuple[int, int], seed: int
) -> Search:
    """The search for the strongest triggers of this height and width, by the judge of the run with this seed."""
    images = data.for_search(target_class, "other_classes").images

    def search(classifier: Classifier, rng: torch.Generator) -> FoundTriggers:
        judge = judge_of_run(seed, classifier, images, target_class, size)
        return find_strongest(judge, settings, rng=rng)

    return search


def _counted_on(on_epoch: OnEpoch, before: int) -> OnEpoch:
    return lambda epoch, metrics: on_epoch(before + epoch, metrics)
