"""Results as runs and sweeps leave them, with rates of our choice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.configs import tiny_config, tiny_sweep
from untrigger.measurements import Arm, Measured, Rates
from untrigger.reports.grids import Cell, GridResult, Planted, grid_result
from untrigger.reports.results import PlantedTrigger, Results, defense_row, results
from untrigger.reports.scans import ModelResult, ScanResult, scan_result
from untrigger.reports.sweep import sweep_results
from untrigger.settings.scans import ScanConfig
from untrigger.verdicts import verdict_on


def rates(
    clean: float, success: float, robust: float, floor: float | None = 0.02, strongest_left: float | None = None
) -> Rates:
    """Rates in the order in which tables show them."""
    return Rates(
        clean_accuracy=clean,
        attack_success_rate=success,
        robust_accuracy=robust,
        clean_target_rate=floor,
        strongest_left=strongest_left,
    )


BEFORE = rates(0.9, 0.99, 0.01)


def trigger(name: str) -> PlantedTrigger:
    """A trigger of one pixel called `name`."""
    return PlantedTrigger(name=name, height=1, width=1, pixels=(((0.0,),),) * 3)


def left(name: str, before: Rates, by_method: Mapping[str, Sequence[Rates]], **changes: Any) -> Results:
    """The results of a run on the trigger `name` whose methods left these rates, one per seed."""
    rows = [
        defense_row(method, seed, before, after)
        for method, each in by_method.items()
        for seed, after in enumerate(each)
    ]
    config = tiny_config(trigger=name, **changes)
    return results(config, "small_resnet", trigger(name), before=before, rows=rows, reversed_successes=[0.9])


def found(name: str, single: float, ensemble: float) -> Results:
    """The results of one trigger; the two methods leave these rates, a seed 0.01 less, another more, and triggers twice
    as strong."""
    both = {"single_trigger": single, "ensemble": ensemble}
    by_method = {
        method: [rates(0.8, success - 0.01, 0.7, strongest_left=2 * success), rates(0.8, success + 0.01, 0.7)]
        for method, success in both.items()
    }
    return left(name, rates(0.81, 1 - single, 0.0), by_method)


FOUND = [found("binary:3", 0.3, 0.02), found("colour:1", 0.05, 0.01), found("binary:9", 0.1, 0.04)]
SWEEP = tiny_sweep(dataset="cifar10", triggers=("binary:3", "colour:1", "binary:9"))


def finished(folder: Path, successes: Mapping[str, Sequence[float]], **changes: Any) -> str:
    """The output folder of a run whose methods came out with these attack success rates."""
    by_method = {method: [rates(0.9, success, 0.8) for success in each] for method, each in successes.items()}
    left("checkerboard", BEFORE, by_method, **changes).save(folder)
    return str(folder)


def swept(folder: Path, ensemble: Mapping[str, float], **changes: Any) -> str:
    """The output folder of a sweep whose ensembles left these attack success rates, by trigger."""
    each = [found(name, single=0.5, ensemble=rate) for name, rate in ensemble.items()]
    sweep_results(tiny_sweep(triggers=tuple(ensemble), **changes), each).save(folder)
    return str(folder)


def scanned(model: str, success: float = 0.1, references: int = 0) -> ScanResult:
    """The scan of a model of two classes that opens so often, beside references that nothing opens."""
    arms = tuple(Arm(search="3", target_class=target, success=success, floor=0.1) for target in (0, 1))
    measured = Measured(arms=arms, seconds=1.0, accuracy=0.9)
    others = [{"3": 0.01 * number} for number in range(references)]
    told = dict.fromkeys(ModelResult.model_fields, "") | {"model": model, "sha256": "ab" * 32}
    verdict = verdict_on(measured.statistics(), others, 0.05)
    return scan_result(measured, verdict, ("cat", "dog"), **told, config=ScanConfig().record())


def planted(attack: str, seed: int, success: float = 0.99, accuracy: float = 0.93) -> Planted:
    """A backdoor of a grid, planted in four seconds in a classifier of 95 %."""
    before = rates(accuracy, success, 0.01)
    return Planted(attack=attack, seed=seed, before=before, clean_accuracy=0.95, seconds=4.0)


def cell(attack: str, method: str, seed: int, success: float) -> Cell:
    """What a method left of such a backdoor."""
    after = rates(0.92, success, 0.9)
    return Cell(attack=attack, method=method, seed=seed, after=after, seconds=1.5, passes=2000 + seed)


def gridded(config: Mapping[str, Any]) -> GridResult:
    """A grid of these attacks, methods and seeds in which everything was planted, and half of it was left."""
    backdoors = list(itertools.product(config["attacks"], range(config["seeds"])))
    cells = [cell(attack, method, seed, 0.5) for attack, seed in backdoors for method in config["methods"]]
    return grid_result(config, "small_resnet", list(itertools.starmap(planted, backdoors)), cells, {})
