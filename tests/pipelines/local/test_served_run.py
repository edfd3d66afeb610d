"""Whole runs with a real object store and a real MLflow server, through their faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from minio import Minio
from mlflow import MlflowClient

from tests.support.served import STORE, UNTRIGGER, Finished, tracked, untrigger
from tests.support.served import config as config
from tests.support.served import finished as finished
from tests.support.served import running as running
from tests.support.servers import RunningServers
from tests.support.waiting import wait_for
from untrigger.storage.objects import checksums

pytestmark = [pytest.mark.pipeline, pytest.mark.server]


def objects(running: RunningServers) -> Minio:
    environment = running.environment
    address = environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    return Minio(address, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], secure=False)


def stages_of(output: Path) -> set[str]:
    return {folder.name for folder in (output / "stages").glob("[!.]*")}


def test_every_artifact_of_the_manifest_is_in_the_bucket_with_its_checksum(
    running: RunningServers, finished: Finished, tmp_path: Path
) -> None:
    manifest = json.loads((finished.output / "manifest.json").read_text())
    names = set(manifest["files"])
    assert {"results.json", "report.html", "run.json", "classifier/classifier.safetensors"} <= names
    listed = {name.split("/")[1] for name in names if name.startswith("stages/")}
    assert listed == stages_of(finished.output) and len(listed) == 10
    for name, entry in manifest["files"].items():
        objects(running).fget_object("untrigger", f"team/runs/{finished.run_id}/{name}", str(tmp_path / "object"))
        found = checksums(tmp_path / "object")
        assert (found.sha256, found.size) == (entry["sha256"], entry["bytes"]), name


def test_another_machine_fetches_report_and_classifier_by_the_runs_id(
    running: RunningServers, finished: Finished, tmp_path: Path
) -> None:
    listed = untrigger(running, "store", "ls", STORE, COLUMNS="200")
    assert finished.run_id in listed.stdout
    address, here = f"{STORE}/runs/{finished.run_id}", tmp_path / "elsewhere"
    fetched = untrigger(running, "store", "get", address, here, "--only", "report.html", "--only", "classifier")
    assert fetched.returncode == 0, fetched.stderr
    files = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert files == {"report.html", "classifier/classifier.json", "classifier/classifier.safetensors"}
    assert (here / "report.html").read_bytes() == (finished.output / "report.html").read_bytes()


def test_deleting_the_local_outputs_loses_nothing(running: RunningServers, finished: Finished, tmp_path: Path) -> None:
    kept = shutil.copytree(finished.output, tmp_path / "kept")
    shutil.rmtree(finished.output)
    restored = untrigger(running, "store", "get", f"{STORE}/runs/{finished.run_id}", finished.output)
    assert restored.returncode == 0, restored.stderr
    config = finished.output / "config.json"
    config.write_text(json.dumps(json.loads((finished.output / "run.json").read_text())["config"]))
    resumed = untrigger(running, "run", "--config", config, "--output", finished.output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count(": reused") == len(stages_of(kept))
    assert (finished.output / "results.json").read_bytes() == (kept / "results.json").read_bytes()


def test_the_tracking_server_has_the_run_and_keeps_its_files_in_the_store(
    running: RunningServers, finished: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    runs = tracked(running, finished.run_id)
    (parent,) = [run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED" and parent.info.artifact_uri.startswith("mlflow-artifacts:")
    client = MlflowClient(running.environment["MLFLOW_TRACKING_URI"])
    client.download_artifacts(parent.info.run_id, "report.html", str(tmp_path))
    assert (tmp_path / "report.html").read_bytes() == (finished.output / "report.html").read_bytes()
    stored = objects(running).list_objects("mlflow", "artifacts/", recursive=True)
    assert any(item.object_name.endswith(f"{parent.info.run_id}/artifacts/report.html") for item in stored)


def test_a_run_takes_a_classifier_from_the_store_and_defends_it_as_it_is(
    running: RunningServers, finished: Finished, config: Path, tmp_path: Path
) -> None:
    (backdoored,) = finished.output.glob("stages/poison_training-*/backdoored_classifier")
    stored = untrigger(running, "store", "put", backdoored, STORE)
    assert stored.returncode == 0, stored.stderr
    address, cache = stored.stdout.strip(), tmp_path / "cache"
    words = ("run", "--config", config, "--output", tmp_path / "taken", "--weights", address)
    ended = untrigger(running, *words, "--poisoning.epochs", "0", UNTRIGGER_CACHE=str(cache))
    assert ended.returncode == 0, ended.stderr
    assert "epoch" not in "".join(line for line in ended.stdout.splitlines() if "clean training" in line)
    earlier, taken = (
        json.loads((folder / "results.json").read_text()) for folder in (finished.output, tmp_path / "taken")
    )
    for found in (earlier, taken):
        del found["config"]
    assert taken == earlier
    assert (cache / "models" / address.rpartition("/")[2] / "files" / "classifier.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, [], "cannot track in MLflow at MLFLOW_TRACKING_URI"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ["--store", STORE], "refuses the credentials"),
        ({}, ["--store", "s3://nowhere"], "no bucket 'nowhere'"),
        ({}, ["--store", "nowhere"], "give s3://bucket"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "UNTRIGGER_STORE_PATIENCE": "1"},
            ["--store", STORE],
            "did not do it within",
        ),
    ],
)
def test_a_missing_server_is_named_before_any_work_and_costs_no_earlier_results(
    running: RunningServers,
    finished: Finished,
    config: Path,
    changes: dict[str, str],
    options: list[str],
    told: str,
) -> None:
    results, began = (finished.output / "results.json").read_bytes(), time.monotonic()
    ended = untrigger(
        running, "run", "--config", config, "--output", finished.output, "--overwrite", *options, **changes
    )
    assert ended.returncode == 2 and told in ended.stderr and ended.stderr.count("\n") == 1
    assert "started" not in ended.stdout and time.monotonic() - began < 30
    assert (finished.output / "results.json").read_bytes() == results


def start(running: RunningServers, config: Path, output: Path, **changes: str) -> subprocess.Popen[str]:
    words = [UNTRIGGER, "run", "--config", str(config), "--output", str(output), "--store", STORE]
    environment = {**os.environ, **running.environment, **changes}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_event(output: Path, stage: str, kind: str) -> None:
    wait_for(lambda: f'"stage": "{stage}", "kind": "{kind}"' in text_of(output / "progress.jsonl"))


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_servers_that_come_back_in_the_middle_get_everything(
    running: RunningServers, config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "interrupted"
    process = start(running, config, output)
    wait_for_event(output, "poison training", "started")
    for name in ("seaweedfs", "mlflow"):
        running.kill(name)
    wait_for_event(output, "pixel SGD", "finished")
    running.up()
    told, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors + told
    assert "MLflow: warning does not answer, records wait for it" in told and "MLflow: warning answers again" in told
    assert "object store: warning the store at" in told
    run_id = json.loads((output / "run.json").read_text())["run_id"]
    runs = tracked(running, run_id)
    assert {"poison training", "pixel SGD", "evaluation", "retraining method=ensemble seed=0"} <= runs.keys()
    assert all(run.info.status == "FINISHED" for run in runs.values())
    points = MlflowClient(running.environment["MLFLOW_TRACKING_URI"]).get_metric_history(
        runs["poison training"].info.run_id, "loss"
    )
    assert [point.step for point in points] == [1, 2], "none lost, none twice"
    manifest = json.loads((output / "manifest.json").read_text())
    stored = {
        item.object_name.removeprefix(f"team/runs/{run_id}/"): item.size
        for item in objects(running).list_objects("untrigger", f"team/runs/{run_id}/", recursive=True)
    }
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()}.items() <= stored.items()


def test_a_run_whose_servers_stay_away_ends_with_everything_on_disk_and_says_how_to_upload_it(
    running: RunningServers, config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "left alone"
    process = start(running, config, output, UNTRIGGER_STORE_PATIENCE="2", UNTRIGGER_TRACKING_PATIENCE="1")
    wait_for_event(output, "poison training", "started")
    for name in ("seaweedfs", "mlflow"):
        running.kill(name)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 2 and errors.count("\n") == 1
    assert f"untrigger store put '{output}' {STORE}" in errors and f"untrigger track '{output}'" in errors
    assert json.loads((output / "results.json").read_text())["format"] == 1

    elsewhere = untrigger(running, "track", output, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'other.db'}")
    assert elsewhere.returncode == 2 and "the records wait for the server at http://127.0.0.1" in elsewhere.stderr
    resumed = untrigger(running, "run", "--config", config, "--output", output, "--resume", MLFLOW_TRACKING_URI="")
    assert resumed.returncode == 2 and "deliver them first with `untrigger track" in resumed.stderr

    running.up()
    delivered = untrigger(running, "track", output)
    assert delivered.returncode == 0 and delivered.stdout.startswith("delivered"), delivered.stderr
    assert untrigger(running, "track", output).stdout == "nothing to deliver\n"
    run_id = json.loads((output / "run.json").read_text())["run_id"]
    runs = tracked(running, run_id)
    assert all(run.info.status == "FINISHED" for run in runs.values())
    assert "attack_success_rate" in runs["retraining method=ensemble seed=0"].data.metrics
    parent = next(run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags)
    client = MlflowClient(running.environment["MLFLOW_TRACKING_URI"])
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}

    stored = untrigger(running, "store", "put", output, STORE)
    assert stored.returncode == 0 and stored.stdout == f"{STORE}/runs/{run_id}\n", stored.stderr
    again = untrigger(running, "store", "put", output, STORE)
    moved = [line for line in again.stderr.splitlines() if "already there" not in line]
    assert moved == [], "a repeated put uploads nothing"


def test_files_that_the_tracking_server_cannot_store_are_delivered_later(
    running: RunningServers, config: Path, tmp_path: Path
) -> None:
    """The tracking server answers, but the object store behind it is down."""
    output = tmp_path / "no store"
    words = [UNTRIGGER, "run", "--config", str(config), "--output", str(output)]
    environment = {**os.environ, **running.environment, "UNTRIGGER_TRACKING_PATIENCE": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_event(output, "poison training", "started")
    running.kill("seaweedfs")
    told, errors = process.communicate(timeout=400)
    assert process.returncode == 5 and f"untrigger track '{output}'" in errors.splitlines()[-1], errors + told

    running.up()
    delivered = untrigger(running, "track", output)
    assert delivered.returncode == 0 and delivered.stdout.startswith("delivered"), delivered.stderr
    runs = tracked(running, json.loads((output / "run.json").read_text())["run_id"])
    assert all(run.info.status == "FINISHED" for run in runs.values())
    parent = next(run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags)
    client = MlflowClient(running.environment["MLFLOW_TRACKING_URI"])
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "results.json", "figures"} <= files


def test_a_stage_that_tracks_by_itself_waits_for_a_server_that_is_away(
    running: RunningServers, finished: Finished, tmp_path: Path
) -> None:
    """As on a cluster, where no other process forwards what a stage tracks."""
    stage = (
        "from untrigger.stages.identities import STAGES, StageIdentity\n"
        "from untrigger.stages.stage import stage\n"
        "STAGES['patient'] = StageIdentity('patient', 'patient', STAGES['staircase'].resources)\n"
        "def work(log):\n"
        "    with log.run() as run:\n"
        "        run.metrics({'loss': 1.0}, 1)\n"
        "stage('patient', reusable=False)(work)()\n"
    )
    environment = {**os.environ, **running.environment, "KFP_RUN_ID": finished.run_id, "PYTHONUNBUFFERED": "1"}
    running.kill("mlflow")
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", stage], env=environment, stdout=file)
    wait_for(lambda: "MLflow: warning cannot track in MLflow" in said.read_text())
    running.up()
    assert process.wait(timeout=100) == 0
    told = said.read_text()
    assert "patient: finished" in told and "answers again" in told and "lost" not in told
    run = tracked(running, finished.run_id)["patient"]
    assert run.info.status == "FINISHED" and run.data.metrics["loss"] == 1.0
