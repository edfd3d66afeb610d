"""A grid of attacks by defences, from its settings to cells, tables and a report; what is there already is kept."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from untrigger.attacks.goals import goal_of
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import Classifier, frozen, load_classifier, save_classifier
from untrigger.datasets.sources import dataset_source, read_split
from untrigger.errors import UserError
from untrigger.measurements import Rates
from untrigger.metrics import evaluate
from untrigger.networks.devices import device
from untrigger.networks.passes import counted_passes
from untrigger.poisoning import plant_backdoor
from untrigger.references import clean_model
from untrigger.reports.grid_tables import write_grid
from untrigger.reports.grids import NOT_APPLICABLE, NOT_PLANTED, PATCHES_ONLY, Cell, GridResult, Planted, grid_result
from untrigger.runs.grid_methods import Case, Method, find_method
from untrigger.runs.kept_parts import kept_part
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.tracked_folders import lay_out_database, tracking_environment
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.attacks import AttackSettings
from untrigger.settings.grids import GridConfig
from untrigger.settings.tracked import started_now
from untrigger.tracking.progress import duration
from untrigger.tracking.records import TRACKING_URI, close_parent, nested_run, open_parent, parent_run
from untrigger.triggers import read_trigger

REPORTED = ("report.html", "grid.csv", "grid.tex", GridResult.FILE)


def run_grid(config: GridConfig, output: Path, *, say: Callable[[str], None]) -> GridResult:
    """Plant, search and close whatever of the grid does not lie below `output` yet; write what all of it shows.

    The same call goes on where an earlier one was interrupted, and more attacks, methods or seeds add to what is there:
    a part is made anew only where something that it depends on has changed. Raises UserError when a name is unknown,
    or when the folder holds something else.
    """
    attacks = {name: config.attack(name) for name in config.attacks}
    methods = {name: find_method(name, config) for name in config.methods}
    folder = _opened(output, config)
    try:
        with _tracked(folder, config):
            found = _Grid(config, attacks, methods, folder.path / "cells", say).result()
            write_grid(folder.path, found)
            for name in REPORTED:
                parent_run().files(folder.path / name)
    finally:
        folder.close()
    return found


def _opened(output: Path, config: GridConfig) -> OutputFolder:
    """The folder, kept from others; UserError where it holds what is no grid."""
    folder = OutputFolder(output)
    if folder.holds_run and "attacks" not in folder.description()["config"]:
        raise UserError(f"{folder.path} holds a run that is no grid: choose another --output")
    folder.open(config.record(), {}, resume=folder.holds_run, overwrite=False)
    return folder


@contextlib.contextmanager
def _tracked(folder: OutputFolder, config: GridConfig) -> Iterator[None]:
    """A run in MLflow for the grid, in which one for each cell nests."""
    from untrigger.tracking.forwarding import forwarding

    before = dict(os.environ)
    os.environ.update(tracking_environment(folder))
    try:
        with folder.log.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
            lay_out_database(folder)
        with forwarding(folder.tracking_records, os.environ[TRACKING_URI], folder.run_id):
            tags = {"dataset": config.dataset, "attacks": ",".join(config.attacks)}
            open_parent(started_now(f"grid {config.dataset} seed {config.seed}"), config.record(), tags)
            try:
                yield
            except BaseException:
                close_parent(succeeded=False)
                raise
            close_parent(succeeded=True)
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Grid:
    """A grid at work: its parts lie below `folder`, and each line that a person gets tells of one."""

    def __init__(
        self,
        config: GridConfig,
        attacks: Mapping[str, AttackSettings],
        methods: Mapping[str, Method],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.attacks, self.methods, self.folder = config, attacks, methods, folder
        self.progress = _Progress(say, len(attacks) * config.seeds * (1 + len(methods)))
        split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
        parts = (split.training, split.defender, split.evaluation)
        self.training, self.defender, self.evaluation = (part.to(device()) for part in parts)
        trigger, classes = read_trigger(config.trigger), len(split.training.class_names)
        self.stamping = {name: build_attack(settings, trigger) for name, settings in attacks.items()}
        self.goals = {name: goal_of(settings, config.target_class, classes) for name, settings in attacks.items()}
        self.told = {name: getattr(config, name).record() for name in ("data", "classifier", "training")}
        self.told |= {"dataset": dataset_source(config.dataset).identity(), "seed": config.seed}
        self.told_trigger = {"target_class": config.target_class, "trigger": trigger.tolist()}

    def result(self) -> GridResult:
        """All backdoors and cells, made or kept."""
        clean, planted, cells = self._clean(), [], []
        for name, number in itertools.product(self.attacks, range(self.config.seeds)):
            backdoor, told = self._planted(clean, name, number)
            planted.append(backdoor)
            for method in self.methods:
                if not backdoor.took or self._note(name, method) == NOT_APPLICABLE:
                    self.progress.skip()
                else:
                    cells.append(self._cell(name, method, number, told))
        notes = {pair: self._note(*pair) for pair in itertools.product(self.attacks, self.methods)}
        return grid_result(self.config.record(), clean.settings.architecture, planted, cells, notes)

    def _clean(self) -> Classifier:
        config = self.config

        def make(place: Path) -> None:
            model = clean_model(config.classifier, config.training, self.training, derived_seed(config.seed, "clean"))
            save_classifier(model, place)

        return load_classifier(kept_part(self.folder / "clean", self.told, make), device())

    def _planted(self, clean: Classifier, name: str, number: int) -> tuple[Planted, dict[str, Any]]:
        """The backdoor of an attack and a seed, and all that it depends on."""
        config, data = self.config, self.training

        def make(place: Path) -> None:
            began, backdoored = time.perf_counter(), copy.deepcopy(clean)
            rng = derived_rng(self._seed(name, number), "planting")
            attack, goal = self.stamping[name], self.goals[name]
            plant_backdoor(backdoored, data.images, data.labels, attack, goal, config.poisoning, rng=rng)
            save_classifier(backdoored, place)
            Planted(
                attack=name,
                seed=number,
                before=self._rates(backdoored, name, number),
                clean_accuracy=self._rates(clean, name, number).clean_accuracy,
                seconds=time.perf_counter() - began,
            ).save(place)

        settings = {"attack": self.attacks[name].record(), "poisoning": config.poisoning.record()}
        told = {**self.told, **self.told_trigger, **settings, "number": number}
        place = kept_part(self._place(name, number), told, make)
        found = Planted.load(place)
        took = "planted" if found.took else NOT_PLANTED
        self.progress.tell(f"{name}, seed {number}: {took}", found.before, found.seconds)
        return found, told

    def _cell(self, name: str, method: str, number: int, told: dict[str, Any]) -> Cell:
        """What a method leaves of a backdoor, which depends on what is `told` of it."""
        way = self.methods[method]

        def make(place: Path) -> None:
            backdoored = load_classifier(self._place(name, number), device())
            case = Case(backdoored, self.defender, self.stamping[name], self.config, self._seed(name, number))
            began = time.perf_counter()
            with counted_passes(backdoored.network) as passes:
                closed = way.close(case)
            seconds = time.perf_counter() - began
            after = self._rates(closed, name, number)
            Cell(attack=name, method=method, seed=number, after=after, seconds=seconds, passes=passes.count).save(place)

        place = self._place(name, number, method)
        found = Cell.load(kept_part(place, {**told, "method": method, "settings": way.told}, make))
        with nested_run(f"{name} {method} seed={number}", {"attack": name, "method": method, "seed": number}) as run:
            run.parameters(way.told)
            run.metrics({**found.after.model_dump(), "seconds": found.seconds, "passes": found.passes})
        self.progress.tell(f"{name}, seed {number}, {method}", found.after, found.seconds)
        return found

    def _rates(self, classifier: Classifier, name: str, number: int) -> Rates:
        """On the evaluation data, triggers in the same places for all methods."""
        data, rng = self.evaluation, derived_rng(self._seed(name, number), "evaluation")
        fixed = frozen(classifier, data.images)
        return evaluate(fixed, data.images, data.labels, self.stamping[name], self.goals[name], rng)

    def _note(self, name: str, method: str) -> str:
        """What a method that searches for a patch of one class can make of an attack."""
        if not self.methods[method].searches:
            return ""
        if self.attacks[name].goal == "all_to_all":
            return NOT_APPLICABLE
        return "" if self.stamping[name].is_patch else PATCHES_ONLY

    def _seed(self, name: str, number: int) -> int:
        return derived_seed(self.config.seed, "grid", name, number)

    def _place(self, *names: str | int) -> Path:
        return self.folder / "-".join(map(str, names))


class _Progress:
    """Says a line for each part that is done, and how long the rest may take."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total, self._done = say, total, 0
        self._began = time.monotonic()

    def skip(self) -> None:
        """One part will not be made."""
        self._done += 1

    def tell(self, what: str, rates: Rates, seconds: float) -> None:
        """One part is done."""
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        self._say(
            f"{self._done} of {self._total}: {what}: attack success {100 * rates.attack_success_rate:.1f} %, clean "
            f"accuracy {100 * rates.clean_accuracy:.1f} %, {duration(seconds)} ({duration(left)} left)"
        )
