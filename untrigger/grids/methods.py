"""The methods of a grid: each from a backdoored classifier to what it makes of it, search and all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from untrigger.attacks.attack import Attack
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.registry import Defend, find_defence
from untrigger.defending import learn_staircase
from untrigger.judge import judge_of_run
from untrigger.pixel_sgd import reverse_triggers
from untrigger.retraining import retrain
from untrigger.seeding import derived_rng
from untrigger.settings.base import Settings
from untrigger.settings.grids import GridConfig
from untrigger.settings.methods import PixelSgdSettings
from untrigger.triggers import TriggerSource, always


@dataclass(frozen=True)
class Case:
    """A backdoored classifier, and what its defender has: clean images, and the word of which class is attacked.

    attack: for the control `ideal` alone. seed: of the repetition, the same for all methods.
    """

    classifier: Classifier
    data: ImageData
    attack: Attack
    config: GridConfig
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patches that are searched for."""
        return self.config.trigger_height, self.config.trigger_width

    @property
    def searched(self) -> torch.Tensor:
        """The images that are searched on: of other classes than the attacked one."""
        return self.data.for_search(self.config.target_class, "other_classes").images

    def rng(self, purpose: str) -> torch.Generator:
        """The randomness for one purpose."""
        return derived_rng(self.seed, purpose)


@dataclass(frozen=True)
class Method:
    """How a method closes a case; told: the settings that it depends on; searches: for a patch of one class."""

    name: str
    close: Callable[[Case], Classifier]
    told: dict[str, Any]
    searches: bool = False


def find_method(name: str, config: GridConfig) -> Method:
    """The method of that name; UserError where there is none."""
    if name in _OURS:
        close, reads, searches = _OURS[name]
        return Method(name, close, config.model_dump(mode="json", include=reads), searches)
    defence = find_defence(name)
    settings = defence.settings or getattr(config, name)
    return Method(name, partial(_by_others, defence.defend, settings), settings.record())


def _none(case: Case) -> Classifier:
    return case.classifier


def _fine_tune(case: Case) -> Classifier:
    return _retrained(case, None)


def _single_trigger(case: Case) -> Classifier:
    """The baseline of the paper, with one restart."""
    settings = PixelSgdSettings.of({**case.config.pixel_sgd.record(), "restarts": 1})
    (found,) = reverse_triggers(
        case.classifier, case.searched, case.config.target_class, case.size, settings, rng=case.rng("pixel SGD")
    )
    return _retrained(case, always(found))


def _ensemble(case: Case) -> Classifier:
    judge = judge_of_run(case.seed, case.classifier, case.searched, case.config.target_class, case.size)
    return _retrained(case, learn_staircase(judge, case.config, case.seed).sample)


def _ideal(case: Case) -> Classifier:
    """The control that no defender has: stamps as the attack does."""
    return _retrained(case, case.attack)


def _retrained(case: Case, triggers: TriggerSource | Attack | None) -> Classifier:
    settings, rng = case.config.retraining, case.rng("retraining")
    return retrain(case.classifier, case.data.images, case.data.labels, triggers, settings, rng=rng)


def _by_others(defend: Defend, settings: Settings, case: Case) -> Classifier:
    return defend(case.classifier, case.data, settings, rng=case.rng("retraining"))


_SEARCHED = {"target_class", "trigger_height", "trigger_width", "retraining"}
_OURS: dict[str, tuple[Callable[[Case], Classifier], set[str], bool]] = {
    "none": (_none, set(), False),
    "fine_tune": (_fine_tune, {"retraining"}, False),
    "single_trigger": (_single_trigger, {*_SEARCHED, "pixel_sgd"}, True),
    "ensemble": (_ensemble, {*_SEARCHED, "betas", "samples", "flow"}, True),
    "ideal": (_ideal, {"retraining"}, False),
}
"""Of each the settings that it depends on, and whether it searches for a patch of one class."""
