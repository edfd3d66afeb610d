"""`grid.json`: what was found in a grid of attacks by defences, rates as fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from untrigger import __version__
from untrigger.intervals import error95
from untrigger.measurements import Rates
from untrigger.reports.results import ENSEMBLE, defense_row, mean_and_spread
from untrigger.settings.base import Frozen, Stored

PLANTED_SUCCESS, ACCURACY_LOST = 0.9, 0.03
"""A backdoor counts as planted at so much success, and at so little clean accuracy lost."""

CELLS = "cells"
"""The folder below a grid's that holds its parts."""

NOT_PLANTED, NOT_APPLICABLE, PATCHES_ONLY = "not planted", "not applicable", "patches only"


class Planted(Stored):
    """One backdoored classifier: its rates, and the clean accuracy of the classifier that the attack began with."""

    FILE = "planted.json"

    attack: str
    seed: int
    before: Rates
    clean_accuracy: float
    seconds: float

    @property
    def took(self) -> bool:
        """Whether the attack succeeded without giving itself away by the accuracy."""
        lost = self.clean_accuracy - self.before.clean_accuracy
        return self.before.attack_success_rate >= PLANTED_SUCCESS and lost <= ACCURACY_LOST


class Cell(Stored):
    """What one method left of one planted backdoor, and what that cost: seconds, and images through the network."""

    FILE = "cell.json"

    attack: str
    method: str
    seed: int
    after: Rates
    seconds: float
    passes: int

    @property
    def metrics(self) -> dict[str, float]:
        """What cells are compared by."""
        return {**self.after.model_dump(), "seconds": self.seconds, "passes": self.passes}


def part_name(attack: str, seed: int, method: str = "") -> str:
    """What the folder of a backdoor is called, or that of the cell of a method."""
    return "-".join(filter(None, (attack, str(seed), method)))


class GridRow(Frozen):
    """One method against one attack, over the seeds whose backdoor was planted: means and sample deviations.

    asr, robust, der, accuracy: attack success rate, robust accuracy, defence effectiveness rating, clean accuracy,
    fractions; None where nothing was measured, and deviations of a single seed. seconds and passes: means of a seed.
    note: why nothing was measured, or what the method assumes of attacks and does not hold of this one.
    """

    attack: str
    method: str
    seeds: int
    asr: float | None = None
    asr_sd: float | None = None
    accuracy: float | None = None
    accuracy_sd: float | None = None
    robust: float | None = None
    der: float | None = None
    seconds: float | None = None
    passes: float | None = None
    note: str = ""


class PairedDifference(Frozen):
    """How much more attack success `a` leaves than `b`, of the same backdoors: the mean over `n` seeds.

    low, high: its 95 % interval by Student's t; None for a single seed.
    """

    attack: str
    a: str
    b: str
    n: int
    difference: float
    low: float | None
    high: float | None


class GridResult(Stored):
    """What a grid found; see its parts."""

    FILE = "grid.json"

    dataset: str
    classifier: str
    rows: tuple[GridRow, ...]
    paired: tuple[PairedDifference, ...]
    planted: tuple[Planted, ...]
    seconds: float
    """Of all its parts together, wherever and whenever they were made."""
    version: str = __version__
    config: dict[str, Any]

    @property
    def attacks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.attack for row in self.rows))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def row(self, attack: str, method: str) -> GridRow:
        """One method against one attack."""
        return next(row for row in self.rows if (row.attack, row.method) == (attack, method))


def grid_result(
    config: Mapping[str, Any],
    classifier: str,
    planted: Sequence[Planted],
    cells: Sequence[Cell],
    notes: Mapping[tuple[str, str], str],
) -> GridResult:
    """Rows and differences of all that was measured.

    config: the settings as recorded. notes: of a method against an attack, by their names; those with a note and no
    cells were not run.
    """
    rows = []
    for attack in config["attacks"]:
        before = {each.seed: each for each in planted if each.attack == attack}
        for method in config["methods"]:
            mine = [cell for cell in cells if (cell.attack, cell.method) == (attack, method)]
            rows.append(_row(attack, method, before, mine, notes.get((attack, method), "")))
    return GridResult(
        dataset=config["dataset"],
        classifier=classifier,
        rows=tuple(rows),
        paired=tuple(_paired(config, cells)),
        planted=tuple(planted),
        seconds=sum(each.seconds for each in planted) + sum(cell.seconds for cell in cells),
        config=dict(config),
    )


def joined_grids(parts: Sequence[GridResult]) -> GridResult:
    """The grid whose attacks are those of all parts, which differ in nothing else."""
    attacks = [attack for part in parts for attack in part.config["attacks"]]
    return parts[0].model_copy(
        update={
            "rows": tuple(row for part in parts for row in part.rows),
            "paired": tuple(each for part in parts for each in part.paired),
            "planted": tuple(each for part in parts for each in part.planted),
            "seconds": sum(part.seconds for part in parts),
            "config": {**parts[0].config, "attacks": attacks},
        }
    )


def _row(attack: str, method: str, planted: Mapping[int, Planted], cells: Sequence[Cell], note: str) -> GridRow:
    missing = [seed for seed, each in planted.items() if not each.took]
    if missing and note != NOT_APPLICABLE:
        which = NOT_PLANTED if len(missing) == len(planted) else f"{len(missing)} of {len(planted)} {NOT_PLANTED}"
        note = ", ".join(filter(None, (which, note)))
    if not cells:
        return GridRow(attack=attack, method=method, seeds=0, note=note)
    ratings = [
        defense_row(method, cell.seed, planted[cell.seed].before, cell.after).defense_effectiveness_rating or 0.0
        for cell in cells
    ]
    success, success_sd = mean_and_spread([cell.after.attack_success_rate for cell in cells])
    accuracy, accuracy_sd = mean_and_spread([cell.after.clean_accuracy for cell in cells])
    several = len(cells) > 1
    return GridRow(
        attack=attack,
        method=method,
        seeds=len(cells),
        asr=success,
        asr_sd=success_sd if several else None,
        accuracy=accuracy,
        accuracy_sd=accuracy_sd if several else None,
        robust=_mean([cell.after.robust_accuracy for cell in cells]),
        der=_mean(ratings),
        seconds=_mean([cell.seconds for cell in cells]),
        passes=_mean([cell.passes for cell in cells]),
        note=note,
    )


def _mean(values: Sequence[float]) -> float:
    return mean_and_spread(values)[0]


def _paired(config: Mapping[str, Any], cells: Sequence[Cell]) -> list[PairedDifference]:
    """The ensemble against every other method, attack by attack."""
    found = []
    left = {(cell.attack, cell.method, cell.seed): cell.after.attack_success_rate for cell in cells}
    for attack in config["attacks"]:
        for method in config["methods"]:
            seeds = [seed for each, other, seed in left if (each, other) == (attack, method)]
            pairs = [
                left[attack, ENSEMBLE, seed] - left[attack, method, seed]
                for seed in seeds
                if (attack, ENSEMBLE, seed) in left
            ]
            if method == ENSEMBLE or not pairs:
                continue
            mean, spread = mean_and_spread(pairs)
            error = error95(spread / math.sqrt(len(pairs)), len(pairs)) if len(pairs) > 1 else None
            low, high = (None, None) if error is None else (mean - error, mean + error)
            found.append(
                PairedDifference(attack=attack, a=ENSEMBLE, b=method, n=len(pairs), difference=mean, low=low, high=high)
            )
    return found
