"""`sweep.json`: the attack success rates of a sweep over many triggers, set beside the published ones."""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

from pydantic import model_serializer

from untrigger.intervals import error95
from untrigger.reports.results import ENSEMBLE, Pixels, PlantedAttack, RepeatedRates, Results, Stair, mean_and_spread
from untrigger.settings.attacks import DEFAULT_ATTACK
from untrigger.settings.base import Frozen, Stored
from untrigger.settings.plans import ELSEWHERE
from untrigger.settings.runs import SweepConfig
from untrigger.storage.sources import is_address

BLACK_AND_WHITE, COLOUR, OTHER = "black-and-white", "colour", "other"

BEFORE = "before"
BASELINE = "single_trigger"

PUBLISHED_RATES: dict[str, dict[str, tuple[float, float | None]]] = {
    BLACK_AND_WHITE: {
        BEFORE: (0.987, 0.924),
        BASELINE: (0.105, 0.514),
        "beta=0.5": (0.042, 0.090),
        "beta=0.8": (0.036, 0.091),
        "beta=0.9": (0.034, 0.059),
        "ensemble": (0.036, 0.082),
        "ideal": (0.024, 0.037),
    },
    COLOUR: {
        BASELINE: (0.2275, None),
        "beta=0.5": (0.0177, None),
        "beta=0.8": (0.0193, None),
        "beta=0.9": (0.0204, None),
        "ensemble": (0.0191, None),
    },
}
"""Attack success rate, mean and worst over the triggers: CIFAR-10, ResNet-18, 51 black-and-white and 10 colour ones."""

NOT_PUBLISHED = ("digits", "cifar100")
"""Datasets that are not the one of `PUBLISHED_RATES`; of a folder or an address, nobody can tell by the name."""


class SweptRates(RepeatedRates):
    """What one method left of one trigger, over its retraining seeds."""

    MEAN = ""

    seeds: int
    worst_of_seeds: float | None = None
    """The highest attack success rate of a single seed; early versions did not write it."""

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        spread = self.std.model_dump() if self.std else {}
        std = {rate + self.STD: value for rate, value in spread.items()}
        worst = {} if self.worst_of_seeds is None else {"worst_of_seeds": self.worst_of_seeds}
        return {"seeds": self.seeds, **worst, **self.mean.model_dump(), **std}


class TriggerRow(Frozen):
    """One trigger of a sweep, with the rates that each method left, and those `before` any."""

    name: str
    group: str
    pixels: Pixels
    rates: dict[str, SweptRates]
    stairs: tuple[Stair, ...]
    reversed_attack_success_rates: tuple[float, ...]

    def success(self, method: str) -> float:
        """The attack success rate that `method` left, its mean over the seeds."""
        return self.rates[method].mean.attack_success_rate


class GroupLine(Frozen):
    """One method over the triggers of a group: mean, sample standard deviation and worst attack success rate.

    `worst` is that of a trigger's mean over the seeds, `worst_of_seeds` that of a single seed of any trigger (None
    before the defence, which has no seeds). Before the defence the worst attack is the one that succeeds least, as in
    the paper. `over_ensemble` is how much more than the ensemble the method leaves: the mean over the triggers, and its
    standard error (0 for one trigger).
    strongest_left: the mean and the highest of `Rates.strongest_left` over the triggers where it was searched for.
    """

    group: str
    method: str
    triggers: int
    seeds: int
    mean: float
    std: float
    over_ensemble: float | None = None
    over_ensemble_error: float | None = None
    worst: float
    worst_trigger: str
    worst_of_seeds: float | None = None
    clean_accuracy: float
    strongest_left: float | None = None
    worst_strongest_left: float | None = None
    published_mean: float | None
    published_worst: float | None

    @property
    def over_ensemble_error95(self) -> float | None:
        """Half the width of the 95 % interval of `over_ensemble`, by Student's t; None of one trigger."""
        if self.over_ensemble_error is None or self.triggers < 2:
            return None
        return error95(self.over_ensemble_error, self.triggers)


class SweepResults(Stored):
    """What a sweep found: its triggers by what the baseline leaves of them, and the summary of each group."""

    FILE = "sweep.json"

    dataset: str
    classifier: str
    attack: PlantedAttack = PlantedAttack()
    target_class: int
    config: dict[str, Any]
    triggers: tuple[TriggerRow, ...]
    summary: tuple[GroupLine, ...]


def sweep_results(settings: SweepConfig, found: Sequence[Results]) -> SweepResults:
    """What a sweep found, from the results of each trigger."""
    triggers = sorted((_trigger_row(results) for results in found), key=_by_baseline)
    return SweepResults(
        dataset=settings.dataset,
        classifier=found[0].classifier,
        attack=found[0].attack,
        target_class=settings.target_class,
        config=settings.record(),
        triggers=tuple(triggers),
        summary=tuple(
            line
            for group in (BLACK_AND_WHITE, COLOUR, OTHER)
            for line in _group_summary(settings, group, [row for row in triggers if row.group == group])
        ),
    )


def trigger_group(name: str) -> str:
    """The group that the paper reports the trigger `name` in."""
    if name == "checkerboard" or name.startswith("binary:"):
        return BLACK_AND_WHITE
    return COLOUR if name.startswith("colour:") else OTHER


def folder_name(trigger: str) -> str:
    """The trigger's name as that of a folder: another for every name."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", trigger).strip("-.")
    if re.fullmatch(r"\w+(:\d+)?", trigger, re.ASCII) and "_" not in trigger:
        return readable
    return f"{readable}-{hashlib.sha256(trigger.encode()).hexdigest()[:8]}"


def short_name(trigger: str) -> str:
    """The trigger's name where there is little room: a file's own name, or the beginning of an address's digest."""
    last = trigger.rpartition("/")[2]
    return f"trigger {last[:8]}" if is_address(trigger) else last


def panel_triggers(settings: SweepConfig, found: SweepResults) -> list[str]:
    """The triggers whose distribution is drawn: those chosen, else the baseline's best, median and worst."""
    if settings.panels:
        return list(settings.panels)
    names = [row.name for row in found.triggers]
    return list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))


def sweep_methods(triggers: Sequence[TriggerRow]) -> list[str]:
    """`before` and all methods, in order of appearance."""
    return list(dict.fromkeys(method for row in triggers for method in row.rates))


def _trigger_row(results: Results) -> TriggerRow:
    lines = {
        line.method: SweptRates(
            seeds=line.n, mean=line.mean, std=line.std, worst_of_seeds=_worst_of_seeds(results, line.method)
        )
        for line in results.summary
    }
    return TriggerRow(
        name=results.trigger.name,
        group=trigger_group(results.trigger.name),
        pixels=results.trigger.pixels,
        rates={BEFORE: SweptRates(seeds=1, mean=results.before), **lines},
        stairs=results.stairs,
        reversed_attack_success_rates=results.reversed_attack_success_rates,
    )


def _worst_of_seeds(results: Results, method: str) -> float:
    return max(row.attack_success_rate for row in results.defenses if row.method == method)


def _by_baseline(row: TriggerRow) -> tuple[float, str]:
    return row.success(BASELINE if BASELINE in row.rates else ENSEMBLE), row.name


def _group_summary(settings: SweepConfig, group: str, rows: Sequence[TriggerRow]) -> list[GroupLine]:
    """One line per method over the triggers of the group."""
    comparable = settings.attack == DEFAULT_ATTACK and settings.dataset.partition(":")[0] not in NOT_PUBLISHED
    known = PUBLISHED_RATES.get(group, {}) if comparable else {}
    # The published baseline was reversed elsewhere: its figures stand beside that control where there is one.
    moved = {BASELINE: ELSEWHERE} if any(ELSEWHERE in row.rates for row in rows) else {}
    published = {moved.get(method, method): rates for method, rates in known.items()}
    return [
        _group_line(group, method, [row for row in rows if method in row.rates], published.get(method, (None, None)))
        for method in sweep_methods(rows)
    ]


def _group_line(
    group: str, method: str, rows: Sequence[TriggerRow], published: tuple[float | None, float | None]
) -> GroupLine:
    successes = [row.success(method) for row in rows]
    worst = min(successes) if method == BEFORE else max(successes)
    mean, std = mean_and_spread(successes)
    more = [success - row.success(ENSEMBLE) for success, row in zip(successes, rows, strict=True)]
    over_ensemble, spread = mean_and_spread(more)
    left = [rate for row in rows if (rate := row.rates[method].mean.strongest_left) is not None]
    return GroupLine(
        group=group,
        method=method,
        triggers=len(rows),
        seeds=rows[0].rates[method].seeds,
        mean=mean,
        std=std,
        over_ensemble=over_ensemble,
        over_ensemble_error=spread / math.sqrt(len(rows)),
        worst=worst,
        worst_trigger=rows[successes.index(worst)].name,
        worst_of_seeds=max(
            (rate for row in rows if (rate := row.rates[method].worst_of_seeds) is not None), default=None
        ),
        clean_accuracy=statistics.fmean(row.rates[method].mean.clean_accuracy for row in rows),
        strongest_left=statistics.fmean(left) if left else None,
        worst_strongest_left=max(left, default=None),
        published_mean=published[0],
        published_worst=published[1],
    )
