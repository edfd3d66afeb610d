"""The pipeline `grid` on this machine: it finds what `untrigger grid` finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.configs import PLANTING
from tests.support.local_runs import executed
from untrigger.profiles import grid_config
from untrigger.reports.grids import CELLS, GridResult
from untrigger.runs.grids import run_grid
from untrigger.settings.grids import GridConfig, GridRunConfig

pytestmark = [pytest.mark.pipeline, pytest.mark.usefixtures("one_thread")]

METHODS = ("fine_tune", "ensemble", "ideal")
HARDLY: dict[str, Any] = {"attacks": ("patch", "sinusoidal"), "sinusoidal": {"delta": 0.001}}
"""Two attacks, of which one is not planted."""


def without_times(found: GridResult) -> dict[str, Any]:
    """All that is the same whoever computed it, and how fast."""
    cleared = found.model_dump(mode="json")
    for each in (cleared, *cleared["rows"], *cleared["planted"]):
        each["seconds"] = None
    return cleared


def test_a_grid_finds_what_the_command_finds_and_mlflow_has_a_run_for_each_cell(
    tiny_folder: str, tmp_path: Path
) -> None:
    told = {**PLANTING, **HARDLY, "dataset": tiny_folder, "methods": METHODS}
    once, untracked = run_grid(grid_config("tiny", told, GridConfig), tmp_path / "once", say=lambda _: None)
    assert untracked == ""
    run = tmp_path / "run"
    found = executed(grid_config("tiny", {**told, "methods_per_task": 2}, GridRunConfig), run)
    assert without_times(found) == without_times(once)
    assert {(row.attack, row.method): row.note for row in found.rows} == {
        **{("patch", method): "" for method in METHODS},
        **{("sinusoidal", method): "not planted" for method in METHODS},
        ("sinusoidal", "ensemble"): "not planted, patches only",
    }
    for name in ("grid.tex", "figures/grid.png"):
        assert (run / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert "data:image/png;base64," in (run / "report.html").read_text()
    parts = {"patch-0", "sinusoidal-0", *(f"patch-0-{method}" for method in METHODS)}
    assert {place.name for place in (run / CELLS).iterdir()} == parts
    for planted in (run / "stages").glob("grid_planting-*/backdoored"):
        name = f"{json.loads((planted / 'planted.json').read_text())['attack']}-0"
        own = tmp_path / "once" / CELLS / name / "classifier.safetensors"
        assert (planted / "classifier.safetensors").read_bytes() == own.read_bytes()

    runs = MlflowClient(f"sqlite:///{run / 'mlflow.db'}").search_runs(["1"])
    by_name = {each.info.run_name: each for each in runs}
    assert len(by_name) == len(runs), "each has a name of its own, none is taken for another attempt at it"
    (parent,) = (each for name, each in by_name.items() if name.startswith("grid folder:"))
    assert parent.info.status == "FINISHED" and parent.data.tags["attacks"] == "patch,sinusoidal"
    for row in (each for each in found.rows if each.attack == "patch"):
        cell = by_name[f"patch {row.method} seed=0"]
        assert cell.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert cell.data.metrics["attack_success_rate"] == row.asr and cell.data.params["method"] == row.method
