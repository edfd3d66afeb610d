"""`sweep.json`: the attack success rates of a sweep over many triggers, set beside the published ones."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from untrigger.results import RATES, mean_and_spread
from untrigger.settings import SweepConfig

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
    return f"trigger {last[:8]}" if trigger.startswith("s3://") else last


def sweep_results(settings: SweepConfig, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `sweep.json`, without its format version, from the `results.json` of each trigger."""
    triggers = sorted((_trigger_row(results) for results in found), key=_by_baseline)
    return {
        "dataset": settings.dataset,
        "classifier": settings.classifier.architecture,
        "target_class": settings.target_class,
        "config": settings.record(),
        "triggers": triggers,
        "summary": [
            line
            for group in (BLACK_AND_WHITE, COLOUR, OTHER)
            for line in _group_summary(group, [row for row in triggers if row["group"] == group])
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
    rates = row["rates"].get(BASELINE) or row["rates"]["ensemble"]
    return rates["attack_success_rate"], row["name"]


def _group_summary(group: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per method: mean, sample standard deviation and worst attack success rate over the triggers of the group.

    Before the defence the worst attack is the one that succeeds least, as in the paper.
    """
    summary = []
    for method in sweep_methods(rows):
        own = [row for row in rows if method in row["rates"]]
        values = [row["rates"][method]["attack_success_rate"] for row in own]
        mean, std = mean_and_spread(values)
        worst = min(values) if method == BEFORE else max(values)
        published = PUBLISHED_RATES.get(group, {}).get(method, (None, None))
        summary.append(
            {
                "group": group,
                "method": method,
                "triggers": len(own),
                "seeds": own[0]["rates"][method]["seeds"],
                "mean": mean,
                "std": std,
                "worst": worst,
                "worst_trigger": own[values.index(worst)]["name"],
                "clean_accuracy": statistics.fmean(row["rates"][method]["clean_accuracy"] for row in own),
                "published_mean": published[0],
                "published_worst": published[1],
            }
        )
    return summary
