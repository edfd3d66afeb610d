"""Results as runs and sweeps leave them, with rates of our choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.configs import tiny_config, tiny_sweep
from untrigger.artifacts import write_json
from untrigger.metrics import Rates
from untrigger.reports.results import defense_row, results
from untrigger.reports.sweep import sweep_results

BEFORE = Rates(clean_accuracy=0.9, attack_success_rate=0.99, robust_accuracy=0.01, clean_target_rate=0.02)


def found(trigger: str, single: float, ensemble: float) -> dict[str, Any]:
    """The results of one trigger; the two methods leave these attack success rates."""

    def line(method: str, success: float) -> dict[str, Any]:
        rates = {
            "attack_success_rate": success,
            "clean_accuracy": 0.8,
            "robust_accuracy": 0.7,
            "clean_target_rate": 0.01,
        }
        rates["defense_effectiveness_rating"] = 0.9
        values = {f"{rate}_mean": value for rate, value in rates.items()}
        return {"method": method, "n": 2, **values, **{f"{rate}_std": 0.01 for rate in rates}}

    return {
        "classifier": "small_resnet",
        "trigger": {"name": trigger, "pixels": [[[0.0]]]},
        "before": {"clean_accuracy": 0.81, "attack_success_rate": 1 - single, "robust_accuracy": 0.0},
        "summary": [line("single_trigger", single), line("ensemble", ensemble)],
        "stairs": [],
        "reversed_attack_success_rates": [0.9],
    }


FOUND = [found("binary:3", 0.3, 0.02), found("colour:1", 0.05, 0.01), found("binary:9", 0.1, 0.04)]
SWEEP = tiny_sweep(dataset="cifar10", triggers=("binary:3", "colour:1", "binary:9"))


def finished(folder: Path, rates: dict[str, list[float]], **changes: Any) -> str:
    """The output folder of a run whose methods came out with these attack success rates."""
    rows = [
        defense_row(method, seed, BEFORE, replace(BEFORE, attack_success_rate=rate, robust_accuracy=0.8))
        for method, each in rates.items()
        for seed, rate in enumerate(each)
    ]
    content = results(tiny_config(**changes), "small_resnet", {"name": "checkerboard"}, BEFORE, rows, [], [])
    write_json(folder / "results.json", content)
    return str(folder)


def swept(folder: Path, ensemble: dict[str, float], **changes: Any) -> str:
    """The output folder of a sweep whose ensembles left these attack success rates, by trigger."""
    each = [found(trigger, single=0.5, ensemble=rate) for trigger, rate in ensemble.items()]
    write_json(folder / "sweep.json", sweep_results(tiny_sweep(triggers=tuple(ensemble), **changes), each))
    return str(folder)
