"""The pipeline `grid` on this machine: it finds what `untrigger grid` finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.configs import PLANTING
from untrigger.pipelines.local.protocol import RunOptions, local_run
from untrigger.profiles import grid_config
from untrigger.reports.grids import CELLS, GridResult
from untrigger.runs.grids import run_grid
from untrigger.settings.grids import GridConfig, GridRunConfig

pytestmark = pytest.mark.pipeline

TWO_TASKS = {"methods": ("fine_tune", "ensemble", "ideal"), "methods_per_task": 2}


@pytest.fixture
def told(tiny_folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings under which one of two attacks is planted; how many threads share a sum changes its rounding."""
    for name in ("KFP_RUN_ID", "MLFLOW_TRACKING_URI", "UNTRIGGER_ARTIFACT_LOCATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return {**PLANTING, "dataset": tiny_folder, "attacks": ("patch", "sinusoidal"), "sinusoidal": {"delta": 0.001}}


def without_times(found: GridResult) -> dict[str, Any]:
    """All that is the same whoever computed it, and how fast."""
    cleared = json.loads(found.model_dump_json())
    for each in (cleared, *cleared["rows"], *cleared["planted"]):
        each["seconds"] = None
    return cleared


def test_a_grid_finds_what_the_command_finds_and_mlflow_has_a_run_for_each_cell(
    told: dict[str, Any], tmp_path: Path
) -> None:
    with local_run(grid_config("tiny", {**told, **TWO_TASKS}, GridRunConfig), RunOptions(tmp_path / "run")) as run:
        found = run.execute()
    once = run_grid(
        grid_config("tiny", {**told, "methods": TWO_TASKS["methods"]}, GridConfig), tmp_path / "once", say=print
    )
    assert without_times(found) == without_times(once)
    assert {row.attack: row.note for row in found.rows if row.method == "ensemble"} == {
        "patch": "",
        "sinusoidal": "not planted, patches only",
    }
    for name in ("grid.tex", "figures/grid.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    for name in ("planted.json", "classifier.safetensors"):
        (made,) = (tmp_path / "run" / "stages").glob(f"grid_planting-*/backdoored/{name}")
