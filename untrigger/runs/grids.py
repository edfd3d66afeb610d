"""A grid of attacks by defences, from its settings to cells, tables and a report; what is there already is kept."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from untrigger.attacks.fitting import check_attack_fits
from untrigger.classifiers import Classifier, load_classifier, save_classifier
from untrigger.datasets.images import Split
from untrigger.datasets.sources import dataset_source, read_split
from untrigger.grids.backdoors import Backdoor, backdoors, check_names, clean_seed, gathered_grid, methods_of
from untrigger.grids.methods import Method
from untrigger.measurements import Rates
from untrigger.networks.devices import device
from untrigger.references import clean_model
from untrigger.reports.grid_tables import WRITTEN, write_grid
from untrigger.reports.grids import CELLS, NOT_PLANTED, Cell, GridResult, Planted
from untrigger.runs.kept_parts import kept_part
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.tracked_folders import lay_out_database, tracking_environment
from untrigger.seeding import derived_seed
from untrigger.settings.grids import GridConfig
from untrigger.settings.tracked import started_now
from untrigger.tracking.forwarding import Forwarder
from untrigger.tracking.progress import duration
from untrigger.tracking.records import TRACKING_URI, close_parent, nested_run, open_parent, parent_run
from untrigger.triggers import read_trigger


def run_grid(config: GridConfig, output: Path, *, say: Callable[[str], None]) -> tuple[GridResult, str]:
    """Plant, search and close whatever of the grid does not lie below `output` yet; write what all of it shows.

    Returns it, and what MLflow did not take of it, "" when it has all.

    The same call goes on where an earlier one was interrupted, and more attacks, methods or seeds add to what is there:
    a part is made anew only where something that it depends on has changed. Raises UserError when a name is unknown,
    or when the folder holds something else.
    """
    check_names(config)
    folder = _opened(output, config)
    try:
        with _tracked(folder, config) as forwarded:
            found = _Grid(config, folder.path / CELLS, say).result()
            write_grid(folder.path, found)
            for name in WRITTEN:
                parent_run().files(folder.path / name)
    finally:
        folder.close()
    return found, folder.untracked(forwarded.refused)


def _opened(output: Path, config: GridConfig) -> OutputFolder:
    """The folder, kept from others; UserError where it holds what is no grid."""
    folder = OutputFolder(output)
    folder.open(config.record(), {}, resume=folder.holds_run, overwrite=False)
    return folder


@contextlib.contextmanager
def _tracked(folder: OutputFolder, config: GridConfig) -> Iterator[Forwarder]:
    """A run in MLflow for the grid, in which one for each cell nests."""
    from untrigger.tracking.forwarding import forwarding

    before = dict(os.environ)
    os.environ.update(tracking_environment(folder))
    try:
        with folder.log.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
            lay_out_database(folder)
        with forwarding(folder.tracking_records, os.environ[TRACKING_URI], folder.run_id) as forwarded:
            tags = {"dataset": config.dataset, "attacks": ",".join(config.attacks)}
            open_parent(started_now(f"grid {config.dataset} seed {config.seed}"), config.record(), tags)
            try:
                yield forwarded
            except BaseException:
                close_parent(succeeded=False)
                raise
            close_parent(succeeded=True)
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Grid:
    """A grid at work: its parts lie below `folder`, and each line that a person gets tells of one."""

    def __init__(self, config: GridConfig, folder: Path, say: Callable[[str], None]) -> None:
        self.config, self.folder, self.methods = config, folder, methods_of(config)
        self.progress = _Progress(say, len(config.attacks) * config.seeds * (1 + len(self.methods)))
        split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
        self._check_attacks_fit(split)
        parts = (split.training, split.defender, split.evaluation)
        self.training, self.defender, self.evaluation = (part.to(device()) for part in parts)
        self.told = {name: getattr(config, name).record() for name in ("data", "classifier", "training")}
        self.told |= {"dataset": dataset_source(config.dataset).identity(), "seed": config.seed}

    def _check_attacks_fit(self, split: Split) -> None:
        """UserError for an attack that the data do not allow: before anything is trained."""
        config = self.config
        searched, planted = (config.trigger_height, config.trigger_width), read_trigger(config.trigger).shape[1:]
        for name in config.attacks:
            sizes = [searched, (planted[0], planted[1])] if name == "patch" else [searched]
            source = config.attack(name).source_class
            check_attack_fits(
                config.dataset, split, target_class=config.target_class, source_class=source, patch_sizes=sizes
            )

    def result(self) -> GridResult:
        """All backdoors and cells, made or kept."""
        clean = self._clean()
        for backdoor in backdoors(self.config, clean.classes):
            planted, told = self._planted(clean, backdoor)
            for method in self.methods:
                if backdoor.is_for(method, planted):
                    self._cell(backdoor, method, told)
                else:
                    self.progress.skip()
        return gathered_grid(self.folder, self.config, clean)

    def _clean(self) -> Classifier:
        config = self.config

        def make(place: Path) -> None:
            model = clean_model(config.classifier, config.training, self.training, clean_seed(config))
            save_classifier(model, place)

        return load_classifier(kept_part(self.folder / "clean", self.told, make), device())

    def _planted(self, clean: Classifier, backdoor: Backdoor) -> tuple[Planted, dict[str, Any]]:
        """What was planted, and all that it depends on."""

        def make(place: Path) -> None:
            backdoored, planted = backdoor.planted(clean, self.training, self.evaluation)
            save_classifier(backdoored, place)
            planted.save(place)

        config = self.config
        settings = {"attack": backdoor.told.record(), "poisoning": config.poisoning.record()}
        goal = {"target_class": config.target_class, "trigger": read_trigger(config.trigger).tolist()}
        told = {**self.told, **goal, **settings, "number": backdoor.number}
        found = Planted.load(kept_part(self.folder / backdoor.part(), told, make))
        took = "planted" if found.took else NOT_PLANTED
        self.progress.tell(f"{backdoor.name}, seed {backdoor.number}: {took}", found.before, found.seconds)
        return found, told

    def _cell(self, backdoor: Backdoor, method: Method, told: dict[str, Any]) -> None:
        """What a method leaves of a backdoor, which depends on what is `told` of it."""

        def make(place: Path) -> None:
            backdoored = load_classifier(self.folder / backdoor.part(), device())
            backdoor.left_by(method, backdoored, self.defender, self.evaluation).save(place)

        place = self.folder / backdoor.part(method.name)
        found = Cell.load(kept_part(place, {**told, "method": method.name, "settings": method.told}, make))
        about = {"attack": found.attack, "method": found.method, "seed": found.seed}
        with nested_run(backdoor.run_name(method), about) as run:
            run.parameters(method.told)
            run.metrics(found.metrics)
        self.progress.tell(f"{found.attack}, seed {found.seed}, {found.method}", found.after, found.seconds)


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
