"""A run that publishes and tracks, with the servers that it uses; test modules import the fixtures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.configs import small_config
from tests.support.servers import RunningServers

UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))
STORE = "s3://untrigger/team"


@pytest.fixture(scope="module")
def running(servers: RunningServers) -> RunningServers:
    """The servers, which an earlier module may have left stopped."""
    servers.up()
    return servers


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.json"
    path.write_text(json.dumps(small_config().record()))
    return path


@dataclass
class Finished:
    output: Path
    run_id: str


@pytest.fixture(scope="module")
def finished(running: RunningServers, tmp_path_factory: pytest.TempPathFactory, config: Path) -> Finished:
    """A run that publishes and tracks, with nothing in its way."""
    output = tmp_path_factory.mktemp("runs") / "served"
    ended = untrigger(running, "run", "--config", config, "--output", output, "--store", STORE)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return Finished(output, json.loads((output / "run.json").read_text())["run_id"])


def untrigger(running: RunningServers, *words: object, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **running.environment, **changes}
    return subprocess.run(
        [UNTRIGGER, *map(str, words)], env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def tracked(running: RunningServers, run_id: str) -> dict[str, Run]:
    client = MlflowClient(running.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`untrigger.pipeline_run` = '{run_id}'")
    return {str(run.info.run_name): run for run in runs}
