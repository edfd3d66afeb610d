"""Stages that are killed in the middle and go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.configs import tiny_config
from tests.support.servers import RunningServers
from tests.support.stages import work as work  # the fixture that runs all stages
from tests.support.waiting import wait_for
from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.storage.objects import Address, ObjectStore

pytestmark = pytest.mark.slow

LONG = tiny_config(generator={"epochs": 30}, poisoning={"epochs": 12}, retraining={"epochs": 8}, methods=("ensemble",))
TASKS = pipeline_arguments(LONG)

PROGRAM = """
import json, sys
from importlib import import_module
name, arguments = json.loads(sys.argv[1])
getattr(import_module(f"untrigger.stages.{name}"), "run")(**arguments)
"""


def stage(name: str, arguments: Mapping[str, Any], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps([name, arguments])],
        env={**os.environ, "UNTRIGGER_SNAPSHOT_SECONDS": "0", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def calls(work: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments of stages that train, but for their outputs."""
    suspect = {name: work[key].path for name, key in (("backdoored_classifier", "backdoored"), ("defender_data",) * 2)}
    return {
        "generator_training": {**suspect, "betas": "0.9,0.5", **TASKS["generator_training_task"]},
        "method_retraining": {
            **suspect,
            "trigger_staircase": work["staircase"].path,
            "reversed_triggers": work["reversed"].path,
            "method": "fine_tune,ensemble",
            "seeds": "0,1",
            **TASKS["retraining_task"],
        },
        "poison_training": {
            "training_data": work["training_data"].path,
            "evaluation_data": work["evaluation_data"].path,
            "clean_classifier": work["clean"].path,
            "trigger": "checkerboard",
            **TASKS["poison_training_task"],
        },
    }


OUTPUTS = {
    "generator_training": ("trained_generators",),
    "method_retraining": ("retrained",),
    "poison_training": ("backdoored_classifier", "true_trigger"),
}


def outputs(name: str, folder: Path) -> dict[str, str]:
    return {output: str(folder / output) for output in OUTPUTS[name]}


def run_to_its_end(name: str, arguments: Mapping[str, Any], **environment: str) -> str:
    process = stage(name, arguments, **environment)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return told


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_a_stage_that_is_killed_at_any_moment_goes_on_and_ends_as_an_undisturbed_one(
    name: str, work: dict[str, Any], tmp_path: Path
) -> None:
    kept, arguments = tmp_path / "kept", calls(work)[name]
    began = time.monotonic()
    run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "undisturbed")})
    took = time.monotonic() - began
    killed = {**arguments, **outputs(name, tmp_path / "killed")}
    process = stage(name, killed, UNTRIGGER_SNAPSHOTS=str(kept))
    wait_for(lambda: any(kept.glob("*/[!.]*")), 60)
    moment = random.Random().uniform(0, took / 4)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    if any(kept.glob("*/[!.]*")):
        assert "from where it was interrupted" in run_to_its_end(name, killed, UNTRIGGER_SNAPSHOTS=str(kept)), moment
    else:
        run_to_its_end(name, killed, UNTRIGGER_SNAPSHOTS=str(kept))  # It had ended already.
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed"), moment
    assert not list(kept.iterdir()), "snapshots go when the stage has ended"


@pytest.mark.server
def test_on_a_cluster_snapshots_lie_in_the_store_under_what_the_call_is(
    work: dict[str, Any], tmp_path: Path, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in servers.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cluster = {
        "UNTRIGGER_STORE_BUCKET": "untrigger",
        "UNTRIGGER_STORE_PREFIX": "team/a",
        "UNTRIGGER_IMAGE": "x@sha256:1",
    }
    name, arguments = "generator_training", calls(work)["generator_training"]
    run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "undisturbed")})
    process = stage(name, {**arguments, **outputs(name, tmp_path / "killed")}, **cluster)
    store, below = ObjectStore(), Address("untrigger", "team/a/snapshots")

    def kept() -> list[str]:
        return store.names(below, recursive=True)

    wait_for(kept, 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (snapshot,) = kept()
    assert snapshot.startswith("generator_training-") and snapshot.endswith("/training")
    other = {**arguments, "seed": 1}
    for changed, environment in ((other, cluster), (arguments, {**cluster, "UNTRIGGER_IMAGE": "x@sha256:2"})):
        told = run_to_its_end(name, {**changed, **outputs(name, tmp_path / "other")}, **environment)
        assert "interrupted" not in told, "another call begins anew"
        shutil.rmtree(tmp_path / "other")
    assert kept() == [snapshot]
    again = run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "again")}, **cluster)
    assert "goes on with training from where it was interrupted" in again
    assert files(tmp_path / "again") == files(tmp_path / "undisturbed")
    assert kept() == []


def test_a_stage_goes_on_without_snapshots_where_they_cannot_be_kept(work: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    name, arguments = "generator_training", calls(work)["generator_training"]
    told = run_to_its_end(
        name, {**arguments, **outputs(name, tmp_path / "out")}, UNTRIGGER_SNAPSHOTS=str(tmp_path / "file")
    )
    assert told.count("keeps no snapshots any more: ") == 1
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    told = run_to_its_end(
        name,
        {**arguments, **outputs(name, tmp_path / "away")},
        UNTRIGGER_STORE_BUCKET="untrigger",
        UNTRIGGER_STORE_PATIENCE="1",
        **away,
    )
    assert told.count("keeps no snapshots any more: ") == 1


def test_a_damaged_snapshot_is_passed_over_with_a_word(work: dict[str, Any], tmp_path: Path) -> None:
    kept, name, arguments = tmp_path / "kept", "generator_training", calls(work)["generator_training"]
    run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "undisturbed")})
    process = stage(name, {**arguments, **outputs(name, tmp_path / "out")}, UNTRIGGER_SNAPSHOTS=str(kept))
    wait_for(lambda: any(kept.glob("*/[!.]*")), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (snapshot,) = kept.glob("*/[!.]*")
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.write_bytes(content)
    told = run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "out")}, UNTRIGGER_SNAPSHOTS=str(kept))
    assert "begins training anew, since its snapshot is damaged" in told and "interrupted" not in told
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_what_others_left_is_deleted_after_a_week(work: dict[str, Any], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for name, days in (("old", 8), ("young", 6)):
        (kept / name).mkdir(parents=True)
        (kept / name / "training").write_bytes(b"x")
        moment = time.time() - days * 86400
        os.utime(kept / name, (moment, moment))
    name, arguments = "generator_training", calls(work)["generator_training"]
    run_to_its_end(name, {**arguments, **outputs(name, tmp_path / "out")}, UNTRIGGER_SNAPSHOTS=str(kept))
    assert [folder.name for folder in kept.iterdir()] == ["young"]
