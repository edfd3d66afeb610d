"""What a run found, as it is written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.results import FOUND, SWEEP, finished, swept
from untrigger.artifacts import read_json, write_json
from untrigger.errors import UserError
from untrigger.reports.comparison import compared
from untrigger.reports.results import Results
from untrigger.reports.sweep import SweepResults, sweep_results
from untrigger.runs.reading import read_runs


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    FOUND[0].save(tmp_path)
    assert Results.load(tmp_path) == FOUND[0]
    sweep = sweep_results(SWEEP, FOUND)
    sweep.save(tmp_path)
    assert SweepResults.load(tmp_path) == sweep


def test_the_rates_of_a_method_lie_flat_in_files(tmp_path: Path) -> None:
    FOUND[0].save(tmp_path)
    line = read_json(tmp_path / "results.json")["summary"][0]
    assert list(line)[:4] == ["method", "n", "clean_accuracy_mean", "clean_accuracy_std"]
    sweep_results(SWEEP, FOUND).save(tmp_path)
    rates = read_json(tmp_path / "sweep.json")["triggers"][0]["rates"]
    assert list(rates["before"]) == [
        "seeds",
        "clean_accuracy",
        "attack_success_rate",
        "robust_accuracy",
        "clean_target_rate",
    ]
    assert list(rates["ensemble"])[-2:] == ["clean_target_rate_std", "defense_effectiveness_rating_std"]


def without(content: Any, *missing: str) -> Any:
    """`content` as it was before any field of a name with one of `missing` in it was written."""
    if isinstance(content, dict):
        kept = {name: value for name, value in content.items() if not any(part in name for part in missing)}
        return {name: without(value, *missing) for name, value in kept.items()}
    return [without(item, *missing) for item in content] if isinstance(content, list) else content


@pytest.mark.parametrize("file", ["results.json", "sweep.json"])
def test_results_of_early_versions_are_compared_with_todays(tmp_path: Path, file: str) -> None:
    if file == "results.json":
        folders = [finished(tmp_path / name, {"ensemble": [0.1, 0.2]}) for name in ("early", "today")]
        method = "ensemble"
    else:
        folders = [swept(tmp_path / name, {"binary:3": 0.1, "binary:4": 0.2}) for name in ("early", "today")]
        method = "black-and-white: ensemble"
    early = tmp_path / "early" / file
    content = without(read_json(early), "clean_target_rate", "over_ensemble", "strongest_left")
    del content["attack"], content["config"]["attack"]
    write_json(early, content)
    runs = read_runs(folders)
    lacking, there = compared(runs, method, "clean_target_rate")
    assert lacking is None and there is not None and there.difference is None
    lacking, there = compared(runs, method, "strongest_left")
    assert lacking is None and (there is None) == (file == "results.json"), "only the sweeps were searched"
    _, cell = compared(runs, method, "attack_success_rate")
    assert cell is not None and cell.difference == pytest.approx(0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"before": {"clean_accuracy": 0.9, "attack_success_rate": 1}}, "before.robust_accuracy is missing"),
        ({"target_class": "cat"}, "target_class: input should be a valid integer"),
        ({"defences": []}, "unknown field defences"),
        ({"summary": [3]}, "summary.0: must be a JSON object, got 3"),
        ({"format": 2}, "has format 2, this version of untrigger reads format 1"),
    ],
)
def test_results_that_make_no_sense_are_told_by_file_and_field(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    folder = finished(tmp_path / "run", {"ensemble": [0.1]})
    file = Path(folder) / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError) as refused:
        read_runs([folder])
    assert str(file) in str(refused.value) and told in str(refused.value) and "\n" not in str(refused.value)
