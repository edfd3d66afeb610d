"""`sweep.json`: the attack success rates of a sweep over many triggers, set beside the published ones."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from untrigger.reports.results import RATES, mean_and_spread
from untrigger.settings.runs import SweepConfig
from untrigger.storage.sources import is_address

SUCCESS = "attack_success_rate"

BLACK_AND_WHITE, COLOUR, OTHER = "black-and-white", "colour", "other"

BEFORE = "before"
BASELINE = "single_trigger"
DEFENCE = "ensemble"

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


def trigger_group(name: str) -> str:
    """The group that the paper reports the trigger `name` in."""
    if name == "checkerboard" or name.startswith("binary:"):
        return BLACK_AND_WHITE
    return COLOUR if name.startswith("colour:") else OTHER


def folder_name(trigger: str) -> str:
    """The trigger's name as that of a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", trigger).strip("-.")


def short_name(trigger: str) -> str:
    """The trigger's name where there is little room: a file's own name, or the beginning of an address's digest."""
    last = trigger.rpartition("/")[2]
    return f"trigger {last[:8]}" if is_address(trigger) else last


def sweep_results(settings: SweepConfig, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `sweep.json`, without its format version, from the `results.json` of each trigger."""
    triggers = sorted((_trigger_row(results) for results in found), key=_by_baseline)
    return {
        "dataset": settings.dataset,
        "classifier": found[0]["classifier"],
        "target_class": settings.target_class,
        "config": settings.record(),
        "triggers": triggers,
        "summary": [
            line
            for group in (BLACK_AND_WHITE, COLOUR, OTHER)
            for line in _group_summary(settings, group, [row for row in triggers if row["group"] == group])
        ],
    }


def panel_triggers(settings: SweepConfig, found: Mapping[str, Any]) -> list[str]:
    """The triggers whose distribution is drawn: those chosen, else the baseline's best, median and worst."""
    if settings.panels:
        return list(settings.panels)
    names = [row["name"] for row in found["triggers"]]
    return list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))


def sweep_methods(triggers: Sequence[Mapping[str, Any]]) -> list[str]:
    """`before` and all methods, in order of appearance."""
    return list(dict.fromkeys(method for row in triggers for method in row["rates"]))


def _trigger_row(results: Mapping[str, Any]) -> dict[str, Any]:
    """One trigger: per method the mean of each rate over the seeds, and their standard deviation."""
    before = results["before"]
    rates = {BEFORE: {"seeds": 1, **{rate: before[rate] for rate in RATES if rate in before}}}
    for line in results["summary"]:
        values = {rate: line[f"{rate}_mean"] for rate in RATES}
        spread = {f"{rate}_std": line[f"{rate}_std"] for rate in RATES}
        rates[line["method"]] = {"seeds": line["n"], **values, **spread}
    trigger = results["trigger"]
    return {
        "name": trigger["name"],
        "group": trigger_group(trigger["name"]),
        "pixels": trigger["pixels"],
        "rates": rates,
        "stairs": results["stairs"],
        "reversed_attack_success_rates": results["reversed_attack_success_rates"],
    }


def _by_baseline(row: Mapping[str, Any]) -> tuple[float, str]:
    rates = row["rates"].get(BASELINE) or row["rates"][DEFENCE]
    return rates[SUCCESS], row["name"]


def _group_summary(settings: SweepConfig, group: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line per method over the triggers of the group."""
    published = {} if settings.dataset.partition(":")[0] in NOT_PUBLISHED else PUBLISHED_RATES.get(group, {})
    summary = []
    for method in sweep_methods(rows):
        line = _method_summary(method, [row for row in rows if method in row["rates"]])
        mean, worst = published.get(method, (None, None))
        summary.append({"group": group, "method": method, **line, "published_mean": mean, "published_worst": worst})
    return summary


def _method_summary(method: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation and worst attack success rate over the triggers.

    Before the defence the worst attack is the one that succeeds least, as in the paper. `over_ensemble` is how much
    more than the ensemble the method leaves: the mean over the triggers, and its standard error (0 for one trigger).
    """
    rates = [row["rates"][method] for row in rows]
    successes = [each[SUCCESS] for each in rates]
    worst = min(successes) if method == BEFORE else max(successes)
    mean, std = mean_and_spread(successes)
    more = [success - row["rates"][DEFENCE][SUCCESS] for success, row in zip(successes, rows, strict=True)]
    over_ensemble, spread = mean_and_spread(more)
    return {
        "triggers": len(rows),
        "seeds": rates[0]["seeds"],
        "mean": mean,
        "std": std,
        "over_ensemble": over_ensemble,
        "over_ensemble_error": spread / math.sqrt(len(rows)),
        "worst": worst,
        "worst_trigger": rows[successes.index(worst)]["name"],
        "clean_accuracy": statistics.fmean(each["clean_accuracy"] for each in rates),
    }
