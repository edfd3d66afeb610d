"""The paper's own baseline, a control: single triggers reversed on another model than the one that is defended."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.pixel_sgd import reverse_triggers
from untrigger.poisoning import plant_backdoor
from untrigger.settings.methods import ElsewhereSearch
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.triggers import read_trigger


def reverse_elsewhere(
    clean: Classifier,
    training: ImageData,
    defender: ImageData,
    trigger: Tensor,
    target_class: int,
    search: ElsewhereSearch,
    *,
    rng: torch.Generator,
    on_planted: Callable[[int], None] | None = None,
    snapshot: Callable[[str], Snapshot] = lambda _: UNKEPT,
) -> tuple[Tensor, Classifier]:
    """Plant the patterns of `search.chain` one after the other in a copy of `clean`, then `trigger`; reverse it there.

    trigger: float (3, th, tw) in [0, 1]. The attack trains on `training`, the search has the images of `defender`; all
    on the classifier's device. `on_planted` gets the number of each pattern that was planted, from 1; `snapshot` gives
    that of each training by its name. Returns the reversed triggers, float (restarts, 3, height, width) in [0, 1], on
    the CPU, and the model they were reversed on.
    Source: the baseline of section 5 of the paper, as its authors' notebook made it.
    """
    other = copy.deepcopy(clean)
    planted = [*map(read_trigger, search.chain), trigger]
    for number, pattern in enumerate(planted, 1):
        plant_backdoor(
            other,
            training.images,
            training.labels,
            pattern,
            target_class,
            search.poisoning,
            rng=rng,
            snapshot=snapshot(f"pattern-{number}"),
        )
        if on_planted is not None:
            on_planted(number)
    images = defender.for_search(target_class, search.search_images).images
    found = reverse_triggers(
        other, images, target_class, search.trigger_size, search.pixel_sgd, rng=rng, snapshot=snapshot("search")
    )
    return found, other
