"""`results.json`: what one run of the defence found, rates as fractions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from untrigger.metrics import Rates
    from untrigger.settings.runs import DefenseConfig

RATES = (
    "clean_accuracy",
    "attack_success_rate",
    "robust_accuracy",
    "clean_target_rate",
    "defense_effectiveness_rating",
)

DefenseRow = dict[str, Any]


def defense_row(method: str, seed: int, before: Rates, after: Rates) -> DefenseRow:
    """One retraining's rates; DER compares it with the undefended classifier under the same seed."""
    from untrigger.metrics import defense_effectiveness_rating

    rating = defense_effectiveness_rating(before, after)
    return {"method": method, "seed": seed, **asdict(after), "defense_effectiveness_rating": rating}


def summarise(rows: Sequence[DefenseRow]) -> list[dict[str, Any]]:
    """Per method, in order of appearance: n, and mean and sample standard deviation (0 for one seed) of each rate."""
    summary = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        line: dict[str, Any] = {"method": method, "n": len(own)}
        for rate in RATES:
            line[f"{rate}_mean"], line[f"{rate}_std"] = mean_and_spread([row[rate] for row in own])
        summary.append(line)
    return summary


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, which is 0 for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def results(
    settings: DefenseConfig,
    architecture: str,
    trigger: Mapping[str, Any],
    before: Rates,
    rows: Sequence[DefenseRow],
    stairs: Sequence[Mapping[str, Any]],
    reversed_successes: Sequence[float],
) -> dict[str, Any]:
    """The content of `results.json`, without its format version.

    architecture: of the classifier. reversed_successes: attack success rate of each reversed trigger, before the
    defence.
    """
    return {
        "dataset": settings.dataset,
        "classifier": architecture,
        "trigger": dict(trigger),
        "target_class": settings.target_class,
        "config": settings.record(),
        "before": asdict(before),
        "defenses": list(rows),
        "summary": summarise(rows),
        "stairs": list(stairs),
        "reversed_attack_success_rates": list(reversed_successes),
    }
