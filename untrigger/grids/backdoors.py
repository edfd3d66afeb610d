"""The backdoors of a grid, planted, and measured after each method.

A command makes all of them in one go, a pipeline each in a stage of its own; what is found is the same.
"""

from __future__ import annotations

import copy
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

from untrigger.attacks.attack import Attack
from untrigger.attacks.goals import Goal, goal_of
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import Classifier, frozen
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.grids.methods import Case, Method, find_method
from untrigger.measurements import Rates
from untrigger.metrics import evaluate
from untrigger.networks.passes import counted_passes
from untrigger.poisoning import plant_backdoor
from untrigger.reports.grids import (
    NOT_APPLICABLE,
    PATCHES_ONLY,
    Cell,
    GridResult,
    Planted,
    grid_result,
    part_name,
)
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.attacks import AttackSettings
from untrigger.settings.grids import GridConfig
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.training import OnEpoch
from untrigger.triggers import read_trigger


@dataclass(frozen=True)
class Backdoor:
    """One backdoor of a grid: an attack, and which of its repetitions, counted from 0."""

    config: GridConfig
    told: AttackSettings
    attack: Attack
    goal: Goal
    number: int

    @classmethod
    def of(cls, config: GridConfig, name: str, number: int, classes: int) -> Backdoor:
        """That of the attack of this name; classes: of the classifier. UserError when there is no such attack."""
        told = config.attack(name)
        attack = build_attack(told, read_trigger(config.trigger))
        return cls(config, told, attack, goal_of(told, config.target_class, classes), number)

    @property
    def name(self) -> str:
        """What its attack is called."""
        return self.told.name

    @property
    def seed(self) -> int:
        """From which planting, methods and measurement derive their randomness: the same for all methods."""
        return derived_seed(self.config.seed, "grid", self.name, self.number)

    def part(self, method: str = "") -> str:
        """What its folder is called, or that of the cell of a method."""
        return part_name(self.name, self.number, method)

    def run_name(self, method: Method) -> str:
        """What the run of a cell is called in MLflow."""
        return f"{self.name} {method.name} seed={self.number}"

    def planted(
        self,
        clean: Classifier,
        training: ImageData,
        evaluation: ImageData,
        *,
        on_epoch: OnEpoch | None = None,
        snapshot: Snapshot = UNKEPT,
    ) -> tuple[Classifier, Planted]:
        """A copy of `clean` with the backdoor in it, and what that does."""
        began, backdoored = time.perf_counter(), copy.deepcopy(clean)
        plant_backdoor(
            backdoored,
            training.images,
            training.labels,
            self.attack,
            self.goal,
            self.config.poisoning,
            rng=derived_rng(self.seed, "planting"),
            on_epoch=on_epoch,
            snapshot=snapshot,
        )
        return backdoored, Planted(
            attack=self.name,
            seed=self.number,
            before=self._rates(backdoored, evaluation),
            clean_accuracy=self._rates(clean, evaluation).clean_accuracy,
            seconds=time.perf_counter() - began,
        )

    def note(self, method: Method) -> str:
        """What a method that searches for a patch of one class can make of it."""
        if not method.searches:
            return ""
        if self.told.goal == "all_to_all":
            return NOT_APPLICABLE
        return "" if self.attack.is_patch else PATCHES_ONLY

    def is_for(self, method: Method, planted: Planted) -> bool:
        """Whether there is a cell: something was planted, and the method can be applied to it."""
        return planted.took and self.note(method) != NOT_APPLICABLE

    def left_by(self, method: Method, backdoored: Classifier, defender: ImageData, evaluation: ImageData) -> Cell:
        """What a method leaves of it, and at what cost."""
        case = Case(backdoored, defender, self.attack, self.config, self.seed)
        began = time.perf_counter()
        with counted_passes(backdoored.network) as passes:
            closed = method.close(case)
        seconds = time.perf_counter() - began
        return Cell(
            attack=self.name,
            method=method.name,
            seed=self.number,
            after=self._rates(closed, evaluation),
            seconds=seconds,
            passes=passes.count,
        )

    def _rates(self, classifier: Classifier, data: ImageData) -> Rates:
        """On the evaluation data, triggers in the same places for all methods."""
        rng, fixed = derived_rng(self.seed, "evaluation"), frozen(classifier, data.images)
        return evaluate(fixed, data.images, data.labels, self.attack, self.goal, rng)


def backdoors(config: GridConfig, classes: int) -> list[Backdoor]:
    """All of a grid, attack by attack."""
    each = itertools.product(config.attacks, range(config.seeds))
    return [Backdoor.of(config, name, number, classes) for name, number in each]


def methods_of(config: GridConfig) -> list[Method]:
    """All of a grid; UserError when there is none of a name."""
    return [find_method(name, config) for name in config.methods]


def check_names(config: GridConfig) -> None:
    """UserError when there is no attack or no method of a name, or an attack that sends a class to itself."""
    for name in config.attacks:
        if config.attack(name).source_class == config.target_class:
            raise UserError(
                f"{name}.source_class must be another class than target_class, got {config.target_class} for both"
            )
    methods_of(config)


def clean_seed(config: GridConfig) -> int:
    """The seed of the clean classifier, which all attacks begin with."""
    return derived_seed(config.seed, "clean")


def gathered_grid(folder: Path, config: GridConfig, clean: Classifier) -> GridResult:
    """What the grid found whose parts lie below `folder`, by their names."""
    methods, planted, cells = methods_of(config), [], []
    notes: dict[tuple[str, str], str] = {}
    for backdoor in backdoors(config, clean.classes):
        found = Planted.load(folder / backdoor.part())
        planted.append(found)
        cells += [Cell.load(folder / backdoor.part(each.name)) for each in methods if backdoor.is_for(each, found)]
        notes |= {(backdoor.name, each.name): backdoor.note(each) for each in methods}
    return grid_result(config.record(), clean.settings.architecture, planted, cells, notes)
