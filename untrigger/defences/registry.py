"""The defences of others by name: those that are built in, and those that users register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences import fine_pruning, ft_sam, i_bau, neural_cleanse
from untrigger.errors import UserError
from untrigger.plugins import load_plugins
from untrigger.settings.base import Settings
from untrigger.settings.grids import GRID_METHODS
from untrigger.training import OnEpoch


class Defend(Protocol):
    """Closes whatever backdoor there is: from a classifier and clean images with their labels to another classifier.

    The given one is left as it is. All randomness comes from `rng`; `on_epoch` is told of each epoch or round.
    """

    def __call__(
        self,
        classifier: Classifier,
        data: ImageData,
        settings: Any,
        *,
        rng: torch.Generator,
        on_epoch: OnEpoch | None = None,
    ) -> Classifier: ...


@dataclass(frozen=True)
class Defence:
    """What `register_defence` was told; a built-in one has its settings from the configuration, under its name."""

    defend: Defend
    settings: Settings | None = None


_DEFENCES: dict[str, Defence] = {
    "neural_cleanse": Defence(neural_cleanse.defend),
    "fine_pruning": Defence(fine_pruning.defend),
    "ft_sam": Defence(ft_sam.defend),
    "i_bau": Defence(i_bau.defend),
}


def register_defence(name: str, defend: Defend, settings: Settings) -> None:
    """Let `name` be a method: `defend(classifier, data, settings, rng=..., on_epoch=...)` gives the closed classifier.

    A name of one's own may be registered again; that of a built-in method of a grid is refused with a UserError. For
    commands the call stands in a module that UNTRIGGER_PLUGINS names.
    """
    if name in GRID_METHODS:
        raise UserError(f"the method {name!r} is built in: register yours by another name")
    _DEFENCES[name] = Defence(defend, settings)


def find_defence(name: str) -> Defence:
    """The defence of that name; UserError where there is none."""
    if name not in _DEFENCES:
        load_plugins()
    if name not in _DEFENCES:
        raise UserError(
            f"unknown method {name!r}: choose one of {', '.join(sorted({*GRID_METHODS, *_DEFENCES}))}, or register "
            "yours in a module that UNTRIGGER_PLUGINS names"
        )
    return _DEFENCES[name]
