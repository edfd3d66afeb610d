"""The attack: a backdoor planted by training on with a share of every batch poisoned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.goals import Goal, all_to_one
from untrigger.attacks.patch import patch
from untrigger.classifiers import Classifier
from untrigger.seeding import forked, moved
from untrigger.settings.methods import PoisoningSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.training import BatchChange, OnEpoch, train
from untrigger.triggers import TriggerSource, stamp

Stamp = Callable[[Tensor, torch.Generator], Tensor]
"""Images, float (n, 3, h, w) in [0, 1], to the same with a trigger on each, at places from the randomness."""


def plant_backdoor(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: Attack | Tensor,
    goal: Goal | int,
    settings: PoisoningSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> None:
    """Train `classifier` on, in place, until images that carry the attack's trigger go where `goal` sends them.

    images: uint8 (n, 3, h, w), labels: int64 (n,). attack: a trigger, float (3, th, tw) in [0, 1], is a patch at random
    places. goal: a class is that of `all_to_one`. Each image of a batch that may be is poisoned with the probability
    `settings.poisoned_share`, stamped and relabelled. Source: section 5.1 of the paper.
    """
    attack = patch(attack.to(images.device)) if isinstance(attack, Tensor) else attack
    poison = poisoning(attack, all_to_one(goal) if isinstance(goal, int) else goal, settings.poisoned_share)
    train(classifier, images, labels, settings, rng=rng, change_batch=poison, on_epoch=on_epoch, snapshot=snapshot)


def poisoning(attack: Attack, goal: Goal, share: float) -> BatchChange:
    """Stamp each image of a batch that may be with the probability `share`, and relabel it unless labels are kept.

    As `stamping`; the attack's noise mode disturbs `cross_ratio` times as many others, which keep their labels.
    """

    def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        choice_rng, place_rng, noise_rng = forked(rng, "choice", "places", "noise")
        lots = moved(torch.rand(len(images), generator=choice_rng), images.device)
        chosen, allowed = lots < share, goal.poisonable(labels)
        poisoned = chosen & allowed
        images = _changed(images, poisoned, attack.stamp, place_rng)
        noisy = ~chosen & allowed & (lots < share * (1 + attack.cross_ratio))
        images = _changed(images, noisy, attack.disturbed, noise_rng)
        return images, labels if goal.clean_label else torch.where(poisoned, goal.sent(labels), labels)

    return change


def stamping(source: TriggerSource | Attack, share: float) -> BatchChange:
    """Stamp each image of a batch with the probability `share`, by an attack's own function or with triggers anywhere.

    Labels are kept. Which images, the triggers and the places have a stream each: the same randomness stamps the same
    images at the same places whatever `source` draws.
    """

    def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        choice_rng, trigger_rng, place_rng = forked(rng, "choice", "triggers", "places")

        def stamped(some: Tensor, rng: torch.Generator) -> Tensor:
            if isinstance(source, Attack):
                return source.stamp(some, rng)
            return stamp(some, source(len(some), trigger_rng).to(some.device), rng)

        chosen = torch.rand(len(images), generator=choice_rng) < share
        return _changed(images, chosen, stamped, place_rng), labels

    return change


def _changed(images: Tensor, chosen: Tensor, stamped: Stamp, rng: torch.Generator) -> Tensor:
    """The images with what `stamped` makes of those chosen, bool (n,), in their place."""
    where = moved(chosen.nonzero().squeeze(1), images.device)
    return images.index_copy(0, where, stamped(images[where], rng)) if len(where) else images
