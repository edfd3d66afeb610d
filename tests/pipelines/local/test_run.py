"""The compiled pipeline on this machine, whole, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.configs import SMALL, STEADY, tiny_config, tiny_sweep
from tests.support.files import picture, write_shard
from tests.support.golden import Golden
from tests.support.processes import processes_of
from tests.support.waiting import wait_for
from untrigger.stages.usage import USED

pytestmark = pytest.mark.pipeline

UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))


def command(output: Path, config: Path, *options: str) -> list[str]:
    return [UNTRIGGER, "run", "--config", str(config), "--output", str(output), *options]


def run(output: Path, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(output, config, *options), capture_output=True, text=True, timeout=400)


def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """How many threads share a sum changes its rounding, and so the numbers that are compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(json.dumps(tiny_config(**STEADY).record()))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("runs") / "tiny"
    ended = run(output, config)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return output, ended


def test_a_run_ends_with_the_table_and_says_where_everything_is(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, ended = finished
    for text in (
        "ASR %",
        "single_trigger",
        "ensemble",
        "ideal",
        str(output / "report.html"),
        "mlflow ui --backend-store-uri",
    ):
        assert text in ended.stdout
    assert results(output)["format"] == 1
    assert (output / "report.html").read_text().startswith("<!doctype html>")
    assert len(list((output / "figures").glob("*.png"))) == 7
    assert (output / "classifier" / "classifier.safetensors").exists()


def test_a_run_tracks_the_numbers_that_are_written_down(
    finished: tuple[Path, subprocess.CompletedProcess[str]], golden: Golden
) -> None:
    client = MlflowClient(f"sqlite:///{finished[0] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    roles = {run.info.run_id: run.data.tags["untrigger.role"] for run in runs}
    numbers = {f"{roles[run.info.run_id]}: {name}": value for run in runs for name, value in run.data.metrics.items()}
    assert "clean training: peak_memory_mb" in numbers and "clean training: threads" in numbers
    # An entropy in 27 dimensions makes 27 times as much of rounding.
    left_out = (*USED, "judged_entropy")
    golden.check("run", {name: value for name, value in numbers.items() if not name.endswith(left_out)})


def test_progress_comes_as_plain_lines_when_the_output_is_no_terminal(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    lines = finished[1].stdout.splitlines()
    assert "prepare data: started" in lines
    assert any(line.startswith("poison training: epoch 2 of 2, loss") for line in lines)
    assert any("generator beta=0.5 seed=0: step 20 of 20" in line for line in lines)
    assert any(line.startswith("close run: finished") for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_mlflow_holds_one_parent_and_one_nested_run_per_stage_and_retraining(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    client = MlflowClient(f"sqlite:///{finished[0] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert all(run.info.status == "FINISHED" for run in runs)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.params["generator.hidden"] == "16"
    assert {"report.html", "results.json", "figures"} <= {f.path for f in client.list_artifacts(parent.info.run_id)}
    methods = ["none", "fine_tune", "single_trigger", "beta=0.9", "beta=0.5", "ensemble", "ideal"]
    retrainings = {f"retraining method={method} seed={seed}" for method in methods for seed in (0, 1)}
    stages = {"prepare data", "clean training", "poison training", "pixel SGD", "staircase"}
    stages |= {"t-SNE visualisation", "evaluation"}
    generators = {"generator beta=0.9 seed=0", "generator beta=0.5 seed=0"}
    assert set(by_name) - {parent.info.run_name} == retrainings | stages | generators
    for name in retrainings:
        assert {"attack_success_rate", "clean_accuracy", "robust_accuracy"} <= by_name[name].data.metrics.keys()
        assert {"method", "seed"} <= by_name[name].data.params.keys()
    curve = client.get_metric_history(by_name["generator beta=0.9 seed=0"].info.run_id, "entropy")
    assert [point.step for point in curve] == [10, 20]
    ensemble = next(line for line in results(finished[0])["summary"] if line["method"] == "ensemble")
    assert parent.data.metrics["attack_success_rate"] == ensemble["attack_success_rate_mean"]


@pytest.mark.parametrize(("options", "status"), [((), 5), (("--allow-untracked",), 0)])
def test_a_run_whose_records_are_not_delivered_ends_with_5_unless_that_is_allowed(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    status: int,
) -> None:
    monkeypatch.setenv("UNTRIGGER_TRACKING_PATIENCE", "0")
    output = shutil.copytree(finished[0], tmp_path / "untracked")
    drawn_anew = ("--resume", "--visualisation.perplexity", "3")
    words = command(output, config, *drawn_anew, *options)
    before = len((output / "pipeline.log").read_text())
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: "open run: started" in (output / "pipeline.log").read_text()[before:])
    with contextlib.closing(sqlite3.connect(output / "mlflow.db", timeout=60)) as database:
        database.execute("BEGIN EXCLUSIVE")
        _, errors = process.communicate(timeout=400)
    assert process.returncode == status, errors
    assert (
        errors.startswith("warning: tracking records are not delivered: `untrigger track") and errors.count("\n") == 1
    )
    assert results(output)["before"] == results(finished[0])["before"]


def test_a_killed_stage_is_named_and_resume_gives_the_results_of_an_undisturbed_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, config: Path
) -> None:
    output = tmp_path / "disturbed"
    process = subprocess.Popen(
        command(output, config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    progress = output / "progress.jsonl"
    wait_for(lambda: progress.exists() and '"stage": "pixel SGD", "kind": "started"' in progress.read_text())
    for stage in processes_of(process.pid, "pixel_sgd"):
        os.kill(stage, signal.SIGKILL)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 2
    assert errors.startswith("error: stage pixel SGD was killed before it could finish")
    assert "the process of pixel_sgd was killed by SIGKILL" in errors
    assert "--resume" in errors and "Traceback" not in errors
    assert not (output / "results.json").exists()

    refused = run(output, config)
    assert refused.returncode == 2 and "already holds a run: add --resume" in refused.stderr

    resumed = run(output, config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "poison training: reused" in resumed.stdout
    assert "pixel SGD: started" in resumed.stdout
    assert results(output) == results(finished[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_every_stage_and_the_way_to_go_on_is_said(
    tmp_path: Path, config: Path, number: signal.Signals
) -> None:
    output = tmp_path / "ended"
    words = command(output, config, "--training.epochs", "500")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    progress = output / "progress.jsonl"
    wait_for(lambda: progress.exists() and '"stage": "clean training", "kind": "step"' in progress.read_text())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert errors == f"interrupted{by}: add --resume to the same command to go on from the finished stages\n"
    said = progress.read_text()
    time.sleep(2)
    assert progress.read_text() == said, "no stage goes on"


def test_a_run_goes_on_when_the_reader_of_its_output_has_gone_away(tmp_path: Path, config: Path) -> None:
    output = tmp_path / "unread"
    small = ("--betas", "0.5", "--methods", "ensemble", "--retraining-seeds", "1")
    with subprocess.Popen(
        command(output, config, *small), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1 and (output / "results.json").exists()


def test_another_seed_gives_other_results(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, config: Path
) -> None:
    small = ("--betas", "0.5", "--methods", "ensemble", "--retraining-seeds", "1")
    ended = run(tmp_path / "other", config, "--seed", "1", *small)
    assert ended.returncode == 0, ended.stderr
    assert results(tmp_path / "other")["before"] != results(finished[0])["before"]


def test_a_run_of_another_attack_says_what_its_searches_did_not_look_for(tmp_path: Path, config: Path) -> None:
    output = tmp_path / "blended"
    small = ("--betas", "0.5", "--methods", "ensemble", "--retraining-seeds", "1")
    ended = run(output, config, "--attack", "blended", "--blended.ratio", "0.3", *small)
    assert ended.returncode == 0, ended.stderr
    assert "digits, blended -> class 0" in ended.stdout
    assert "searches, that for what is left too, look for patches only" in " ".join(ended.stdout.split())
    found = results(output)
    assert found["config"]["attack"]["ratio"] == 0.3
    assert found["attack"]["no_patch"] == "the trigger is no patch: a whole picture is mixed in"
    assert found["attack"]["no_patch"] in (output / "report.html").read_text()


def test_errors_inside_a_stage_come_out_as_one_sentence(tmp_path: Path, config: Path) -> None:
    write_shard(tmp_path / "data" / "a.parquet", [picture(1)] * 9 + [b"no picture"], [0, 1] * 5)
    ended = run(tmp_path / "corrupt", config, "--dataset", f"parquet:{tmp_path / 'data'}")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "stage prepare data failed: row 9 of" in ended.stderr and "does not hold a readable image" in ended.stderr

    ended = run(tmp_path / "class", config, "--target-class", "10")
    assert ended.returncode == 2
    assert "target_class must be below the number of classes of digits (10), got 10" in ended.stderr
    ended = run(tmp_path / "size", config, "--trigger-height", "33")
    assert ended.returncode == 2
    assert "a trigger of 33x3 pixels is larger than the images of 32x32" in ended.stderr


@pytest.fixture(scope="module")
def sweep_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "sweep.json"
    path.write_text(json.dumps(tiny_sweep(**SMALL, **STEADY, triggers=("binary:3", "colour:0")).record()))
    return path


def sweep(output: Path, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [UNTRIGGER, "sweep", "--config", str(config), "--profile", "tiny", "--output", str(output), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, sweep_config: Path) -> Path:
    """A sweep over two triggers that was killed whole while the second search was going on, and resumed."""
    output = tmp_path_factory.mktemp("runs") / "sweep"
    words = [UNTRIGGER, "sweep", "--config", str(sweep_config), "--profile", "tiny", "--output", str(output)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    progress = output / "progress.jsonl"
    wait_for(lambda: progress.exists() and 'pixel SGD", "kind": "finished"' in progress.read_text())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "sweep.json").exists()
    resumed = sweep(output, sweep_config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "clean training: reused" in resumed.stdout and ": pixel SGD: reused" in resumed.stdout
    return output


def test_a_sweep_reports_every_trigger_and_all_of_them_together(swept: Path) -> None:
    found = json.loads((swept / "sweep.json").read_text())
    assert {row["name"] for row in found["triggers"]} == {"binary:3", "colour:0"}
    methods = ["before", "ensemble", "ideal"]
    assert [line["method"] for line in found["summary"]] == methods * 2
    page = (swept / "report.html").read_text()
    for name in ("binary-3", "colour-0"):
        assert f"triggers/{name}/report.html" in page
        assert (swept / "triggers" / name / "report.html").exists()
    assert len(list((swept / "figures").glob("*.png"))) == 2


def test_a_sweep_finds_the_numbers_that_are_written_down(swept: Path, sweep_config: Path, golden: Golden) -> None:
    rows = {row["name"]: row["rates"] for row in json.loads((swept / "sweep.json").read_text())["triggers"]}
    numbers = {
        f"{trigger}: {method}: {rate}": value
        for trigger in ("binary:3", "colour:0")
        for method, rates in rows[trigger].items()
        for rate, value in rates.items()
    }
    golden.check("sweep", numbers)


def test_a_trigger_more_costs_only_its_own_stages(swept: Path, sweep_config: Path) -> None:
    ended = sweep(swept, sweep_config, "--resume", "--triggers", "binary:3,colour:0,binary:9")
    assert ended.returncode == 0, ended.stderr
    started = {line.removesuffix(": started") for line in ended.stdout.splitlines() if line.endswith(": started")}
    whole = {"open run", "close run", "aggregation"}
    assert whole <= started and all(name.startswith("binary:9: ") for name in started - whole)
    assert len(json.loads((swept / "sweep.json").read_text())["triggers"]) == 3
