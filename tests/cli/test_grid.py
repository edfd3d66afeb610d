"""`untrigger grid` sets attacks against defences, and goes on where it was interrupted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.configs import PLANTING
from untrigger.cli import main
from untrigger.runs.kept_parts import MADE
from untrigger.runs.output_folder import OutputFolder
from untrigger.settings.base import flattened

pytestmark = pytest.mark.slow


def run_grid(dataset: str, output: Path, *words: str, methods: str = "none,fine_tune,ensemble,ideal") -> Result:
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in flattened(PLANTING).items()]
    place = ["--profile=tiny", "--dataset", dataset, "--output", str(output), "--methods", methods, "--attacks=patch"]
    return CliRunner().invoke(main, ["grid", *place, *settings, *words])


def result(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "grid.json").read_text())
    return found


def without_seconds(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found["rows"]]


def made(output: Path) -> dict[str, int]:
    """When each part was made."""
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob(f"cells/*/{MADE}")}


@pytest.fixture(scope="module")
def finished(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("grid")
    done = run_grid(tiny_folder, output, "--json", str(output / "copy.json"))
    assert done.exit_code == 0, done.output
    assert "ensemble" in done.stdout and "5 of 5: patch, seed 0, ideal" in done.stderr
    return output


def test_a_grid_leaves_rows_differences_tables_and_a_report(finished: Path) -> None:
    found = result(finished)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["none", "fine_tune", "ensemble", "ideal"]
    assert rows["none"]["asr"] > 0.9 and rows["none"]["passes"] == 0 and rows["ensemble"]["passes"] > 1000
    assert {"attack", "seeds", "asr_sd", "accuracy", "robust", "der", "seconds"} < rows["ideal"].keys()
    assert [(each["a"], each["b"], each["n"]) for each in found["paired"]] == [
        ("ensemble", other, 1) for other in ("none", "fine_tune", "ideal")
    ]
    assert json.loads((finished / "copy.json").read_text()) == found
    assert len(list(csv.DictReader((finished / "grid.csv").open()))) == 4
    assert (finished / "grid.tex").read_text().startswith(r"\begin{tabular}")
    assert 'id="heat-map"' in (finished / "report.html").read_text()


def test_the_same_command_makes_nothing_anew_and_an_interrupted_one_only_what_is_missing(
    finished: Path, tiny_folder: str
) -> None:
    before, found = made(finished), without_seconds(result(finished))
    (finished / "cells" / "patch-0-ensemble" / MADE).unlink()
    again = run_grid(tiny_folder, finished)
    assert again.exit_code == 0, again.output
    changed = {name for name, when in made(finished).items() if when != before[name]}
    assert changed == {"patch-0-ensemble"}
    assert without_seconds(result(finished)) == found, "the same to the last bit"


def test_a_changed_setting_makes_anew_what_depends_on_it_alone(finished: Path, tiny_folder: str) -> None:
    before = made(finished)
    methods = "none,fine_tune,ensemble,ideal,ft_sam"
    assert run_grid(tiny_folder, finished, "--retraining.learning-rate=0.01", methods=methods).exit_code == 0
    changed = {name for name, when in made(finished).items() if when != before.get(name)}
    assert changed == {"patch-0-fine_tune", "patch-0-ensemble", "patch-0-ideal", "patch-0-ft_sam"}


def test_each_cell_is_a_run_in_mlflow_below_that_of_the_grid(finished: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "untrigger"]
    runs = client.search_runs([experiment.experiment_id])
    (parent, *_) = [run for run in runs if run.info.run_name.startswith("grid ")]
    cells = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert parent.info.status == "FINISHED" and "patch ensemble seed=0" in cells
    assert {"attack_success_rate", "clean_accuracy", "seconds", "passes"} < cells[
        "patch ideal seed=0"
    ].data.metrics.keys()


def test_what_was_not_planted_is_marked_and_its_cells_are_not_made(tiny_folder: str, tmp_path: Path) -> None:
    done = run_grid(tiny_folder, tmp_path / "out", "--poisoning.epochs=1")
    assert done.exit_code == 0, done.output
    assert "not planted" in done.stdout and not list((tmp_path / "out").glob("cells/patch-0-*"))
    assert {(row["note"], row["asr"]) for row in result(tmp_path / "out")["rows"]} == {("not planted", None)}


def test_what_a_method_assumes_is_said_where_it_does_not_hold(tiny_folder: str, tmp_path: Path) -> None:
    attacks = ("--attacks=patch,sinusoidal", "--patch.goal=all_to_all", "--poisoning.epochs=1")
    done = run_grid(tiny_folder, tmp_path / "out", *attacks, methods="ensemble,ideal")
    assert done.exit_code == 0, done.output
    notes = {(row["attack"], row["method"]): row["note"] for row in result(tmp_path / "out")["rows"]}
    assert notes["patch", "ensemble"] == "not applicable" and notes["patch", "ideal"] == "not planted"
    assert notes["sinusoidal", "ensemble"] == "not planted, patches only"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods=ensemble,prayer"], "unknown method 'prayer': choose one of"),
        (["--attacks=magic"], "the attack must be one of blended, "),
        (["--attacks=patch,patch"], "each once, got patch, patch"),
        (["--profile=large"], "unknown profile 'large'"),
        (["--json=nowhere/grid.json"], "--json: there is no folder"),
        (["--blended.goal=one_to_one", "--blended.source-class=0"], "blended.source_class must be another class than"),
        (["--retraining.rounds=5"], "No such option"),
        (["--pixel-sgd.restarts=8"], "No such option"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_before_anything_is_made(
    words: list[str], sentence: str, tiny_folder: str, tmp_path: Path
) -> None:
    refused = CliRunner().invoke(main, ["grid", "--profile=tiny", "--output", str(tmp_path / "out"), *words])
    assert refused.exit_code == 2 and sentence in refused.stderr, refused.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--target-class=12"], "target_class must be below the number of classes"),
        (["--patch.goal=one_to_one", "--patch.source-class=12"], "source_class must be below the number of classes"),
        (["--trigger-height=40"], "trigger of 40x3 pixels is larger than the images"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_anything_is_trained(
    words: list[str], sentence: str, tiny_folder: str, tmp_path: Path
) -> None:
    refused = run_grid(tiny_folder, tmp_path / "out", *words)
    assert refused.exit_code == 2 and sentence in refused.stderr, refused.output
    assert not made(tmp_path / "out")


def test_records_that_mlflow_did_not_take_end_in_a_status_of_their_own(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutputFolder, "untracked", lambda self, refused: "tracking records are not delivered")
    done = run_grid(tiny_folder, tmp_path / "out", methods="none")
    assert done.exit_code == 5 and "warning: tracking records are not delivered" in done.stderr
    assert run_grid(tiny_folder, tmp_path / "out", "--allow-untracked", methods="none").exit_code == 0


def test_a_folder_of_another_origin_is_left_alone(tiny_folder: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "run_id": "x", "config": {"dataset": "digits"}}))
    refused = run_grid(tiny_folder, tmp_path)
    assert refused.exit_code == 2 and "holds a run of one trigger, not a grid: choose" in refused.stderr
