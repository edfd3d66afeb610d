"""Several runs side by side: what was set differently, and how each method came out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from untrigger.intervals import difference_error95, error95
from untrigger.measurements import RATES, Rates
from untrigger.profiles import laid_over
from untrigger.reports.results import Results, mean_and_spread
from untrigger.reports.sweep import BEFORE, SweepResults
from untrigger.settings.base import flattened
from untrigger.settings.runs import CommonConfig

Repetition = int | str
"""A retraining seed, or the name of a trigger."""

EARLY_WAYS = {"generator": {"family": "mine"}, "search_images": "all"}
"""What versions did that did not know a setting yet, where its default is another."""


@dataclass(frozen=True)
class ComparedRun:
    """A finished run: its name, its configuration, and its rates by method and repetition.

    The repetitions of one trigger are the retraining seeds; those of a sweep are its triggers, and `paired` with those
    of another sweep.
    """

    name: str
    config: Mapping[str, Any]
    rates: Mapping[str, Mapping[Repetition, Rates]]
    paired: bool

    @classmethod
    def of_one(cls, name: str, found: Results) -> ComparedRun:
        """A run of one trigger."""
        rates: dict[str, dict[Repetition, Rates]] = {BEFORE: {0: found.before}}
        for row in found.defenses:
            rates.setdefault(row.method, {})[row.seed] = row
        return cls(name, found.config, rates, paired=False)

    @classmethod
    def of_sweep(cls, name: str, found: SweepResults, triggers: Collection[str]) -> ComparedRun:
        """A sweep, over these `triggers` of it; the methods are named group by group."""
        rates: dict[str, dict[Repetition, Rates]] = {}
        for row in found.triggers:
            for method, swept in row.rates.items() if row.name in triggers else ():
                rates.setdefault(f"{row.group}: {method}", {})[row.name] = swept.mean
        return cls(name, found.config, rates, paired=True)

    def values(self, method: str, rate: str) -> dict[Repetition, float]:
        """The values of one of RATES by repetition; empty when the run lacks them."""
        found = {each: getattr(rates, rate) for each, rates in self.rates.get(method, {}).items()}
        return {each: value for each, value in found.items() if value is not None}


@dataclass(frozen=True)
class ComparedRate:
    """One rate of one run: mean, standard deviation (None of a single value), and what sets it apart from the first.

    `differs`: the 95 % interval of the difference leaves out 0: for sweeps that of the mean over the triggers, by
    Student's t; for runs of one trigger, whose seeds are no pairs, by Welch's. Single values never do.
    """

    mean: float
    std: float | None
    difference: float | None
    differs: bool


def methods(runs: Sequence[ComparedRun]) -> list[str]:
    """All methods of all runs, `before` among them, in order of appearance."""
    return list(dict.fromkeys(method for run in runs for method in run.rates))


def compared(runs: Sequence[ComparedRun], method: str, rate: str) -> list[ComparedRate | None]:
    """The rate of each run, None where a run lacks it."""
    first, *others = (run.values(method, rate) for run in runs)
    cells = [_compared(first, {}, paired=False)]
    return cells + [_compared(values, first, run.paired) for run, values in zip(runs[1:], others, strict=True)]


def _compared(
    values: Mapping[Repetition, float], first: Mapping[Repetition, float], paired: bool
) -> ComparedRate | None:
    if not values:
        return None
    mean, std = _mean_and_std(list(values.values()))
    if not first:
        return ComparedRate(mean, std, None, False)
    first_mean, first_std = _mean_and_std(list(first.values()))
    difference = mean - first_mean
    if std is None or first_std is None:
        return ComparedRate(mean, std, difference, False)
    if paired:
        _, spread = mean_and_spread([values[repetition] - first[repetition] for repetition in values])
        error = error95(spread / math.sqrt(len(values)), len(values))
    else:
        error = difference_error95(std, len(values), first_std, len(first))
    return ComparedRate(mean, std, difference, abs(difference) > error)


def _mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    mean, std = mean_and_spread(values)
    return mean, std if len(values) > 1 else None


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """The settings, under dotted names, that are not the same in all runs, with the value in each.

    What an early version did not know yet has its default, or what that version did instead.
    """
    defaults = laid_over(CommonConfig().record(), EARLY_WAYS)
    flat = [flattened(laid_over(defaults, run.config)) for run in runs]
    names = dict.fromkeys(name for values in flat for name in values)
    found = {name: [values.get(name) for values in flat] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def write_comparison(path: Path, runs: Sequence[ComparedRun]) -> None:
    """Write the comparison as one self-contained page."""
    from untrigger.reports.pages import write_page

    rows = [(method, rate, compared(runs, method, rate)) for rate in RATES for method in methods(runs)]
    write_page(path, "comparison", runs=runs, rates=RATES, rows=rows, settings=differing_settings(runs))
