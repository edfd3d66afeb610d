"""The tiny pipeline in its images, under a real Docker engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

import docker
from tests.support.configs import small_config
from tests.support.files import file_of, picture, write_shard
from tests.support.servers import RunningServers, free_port
from tests.support.waiting import wait_for
from untrigger import __version__
from untrigger.errors import UserError
from untrigger.storage.objects import Address, ObjectStore, checksums
from untrigger.storage.servers import seaweedfs_command

pytestmark = pytest.mark.container

UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.json"
    path.write_text(json.dumps(small_config().record()))
    return path


def command(config: Path, output: Path, *options: str) -> list[str]:
    return [UNTRIGGER, "run", "--config", str(config), "--output", str(output), *options]


def in_containers(config: Path, output: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    words = command(config, output, "--runner", "docker", *options)
    return subprocess.run(
        words, env={**os.environ, **changes}, capture_output=True, text=True, timeout=500, check=False
    )


def container_of(engine: docker.DockerClient, stage: str) -> Any:
    found = engine.containers.list(filters={"ancestor": f"untrigger/{stage}:{__version__}", "status": "running"})
    return found[0] if found else None


@dataclass
class Contained:
    """A whole run in containers: its folder, what it printed, and what the engine said about one of its stages."""

    output: Path
    told: str
    attributes: dict[str, Any]


@pytest.fixture(scope="module")
def contained(
    engine: docker.DockerClient, servers: RunningServers, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Contained:
    output = tmp_path_factory.mktemp("runs") / "contained"
    words = command(config, output, "--runner", "docker", "--memory", "2g", "--store", "s3://untrigger")
    process = subprocess.Popen(
        words,
        env={**os.environ, **servers.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    attributes = wait_for(lambda: container_of(engine, "poison-training")).attrs
    told, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    return Contained(output, told, attributes)


@pytest.fixture
def repeated(contained: Contained, tmp_path: Path) -> Path:
    """A copy of the run, whose finished stages can be reused."""
    return shutil.copytree(contained.output, tmp_path / "run")


def test_the_pipeline_gives_the_same_results_in_containers_and_in_processes(
    contained: Contained, config: Path, tmp_path: Path
) -> None:
    plain = subprocess.run(command(config, tmp_path / "plain"), capture_output=True, text=True, timeout=500)
    assert plain.returncode == 0, plain.stderr
    assert (tmp_path / "plain/results.json").read_bytes() == (contained.output / "results.json").read_bytes()


def test_a_stage_runs_hardened_and_without_any_credential(contained: Contained, servers: RunningServers) -> None:
    host = contained.attributes["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Memory"] == host["MemorySwap"] == 2 * 2**30 and host["NetworkMode"] == "none"
    assert not host["Privileged"] and contained.attributes["Config"]["User"].split(":")[0] not in ("", "0", "root")
    everything = json.dumps(contained.attributes)
    assert servers.environment["AWS_SECRET_ACCESS_KEY"] not in everything
    assert servers.environment["AWS_ACCESS_KEY_ID"] not in everything


def test_a_run_in_containers_is_stored_and_tracked(contained: Contained, servers: RunningServers) -> None:
    run_id = json.loads((contained.output / "run.json").read_text())["run_id"]
    assert f"stored:  s3://untrigger/runs/{run_id}" in contained.told
    client = MlflowClient(servers.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`untrigger.pipeline_run` = '{run_id}'")
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) > 8


def test_a_dataset_outside_the_run_is_readable_in_the_container(config: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "data" / "a.parquet", [picture(1)] * 9 + [b"no picture"], [0, 1] * 5)
    ended = in_containers(config, tmp_path / "run", "--dataset", f"parquet:{tmp_path / 'data'}")
    assert ended.returncode == 2
    assert "stage prepare data failed: row 9 of" in ended.stderr and "does not hold a readable image" in ended.stderr


def test_a_stage_that_crashes_fails_the_pipeline_and_shows_its_last_lines(repeated: Path, config: Path) -> None:
    ended = in_containers(config, repeated, "--resume", "--flow.hidden", str(10**9))
    assert ended.returncode == 2
    assert "stage generator beta=0.5 seed=0 failed: RuntimeError" in ended.stderr
    assert "last lines of generator-training:" in ended.stderr and "can't allocate memory" in ended.stderr


def test_a_killed_container_fails_the_pipeline_is_named_and_the_run_resumes(
    engine: docker.DockerClient, repeated: Path, config: Path
) -> None:
    changed = ("--runner", "docker", "--resume", "--retraining.epochs", "3")
    process = subprocess.Popen(
        command(config, repeated, *changed), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: container_of(engine, "retraining")).kill()
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 2
    assert "the container of retraining was killed" in errors and "--resume" in errors
    resumed = in_containers(config, repeated, "--resume", "--retraining.epochs", "3")
    assert resumed.returncode == 0, resumed.stderr
    # Two methods are retrained at once: the one that was not killed may have finished before.
    assert "visualisation: reused" in resumed.stdout and re.search(r"retraining \w+: finished", resumed.stdout)


def test_a_container_that_runs_out_of_memory_fails_the_pipeline_and_is_named(repeated: Path, config: Path) -> None:
    ended = in_containers(config, repeated, "--resume", "--memory", "1g", "--flow.hidden", "30000")
    assert ended.returncode == 2
    assert "the container of generator-training ran out of its memory of 1g (--memory gives it more)" in ended.stderr


def test_an_interrupt_leaves_no_container_behind(engine: docker.DockerClient, config: Path, tmp_path: Path) -> None:
    words = command(config, tmp_path / "run", "--runner", "docker")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: container_of(engine, "poison-training"))
    process.send_signal(2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "--resume" in errors
    assert engine.containers.list(filters={"label": "untrigger.run"}) == []


def test_a_missing_engine_is_named_before_any_work(config: Path, tmp_path: Path) -> None:
    ended = in_containers(config, tmp_path / "run", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert ended.returncode == 2 and "no Docker engine answers at unix:///nowhere/docker.sock" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_stage_in_a_container_tracks_on_a_server_by_itself(
    engine: docker.DockerClient, servers: RunningServers
) -> None:
    """As on a cluster: no forwarding process, the skinny client, no credentials of the object store."""
    uri = servers.environment["MLFLOW_TRACKING_URI"]
    track_in_container(engine, uri)
    check_tracked(uri)


def track_in_container(engine: docker.DockerClient, uri: str, **names: str) -> None:
    """Open a run from a container, with a parameter and a file; `names` are host names that it knows."""
    stage = (
        "from untrigger.tracking.own_records import forwarding_own_records\n"
        "from untrigger.tracking.records import open_parent, parent_run\n"
        "from pathlib import Path\n"
        "Path('/tmp/note.txt').write_text('hello')\n"
        "with forwarding_own_records():\n"
        "    open_parent('from a container', {'seed': 1}, {})\n"
        "    parent_run().files(Path('/tmp/note.txt'))\n"
    )
    engine.containers.run(
        f"untrigger/open-run:{__version__}",
        ["python", "-c", stage],
        environment={"MLFLOW_TRACKING_URI": uri, "KFP_RUN_ID": "in-container"},
        network_mode="host",
        extra_hosts=names,
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        cap_drop=["ALL"],
        remove=True,
        stderr=True,
    )


def check_tracked(uri: str) -> None:
    """The run of `track_in_container` is on the server, file and all."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`untrigger.pipeline_run` = 'in-container'")
    assert run.data.params == {"seed": "1"}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["note.txt"]


def test_a_store_whose_disk_is_full_is_reported_and_keeps_what_it_has(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SeaweedFS on a disk of 64 MiB."""
    port, objects = free_port(), tmp_path / "objects"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "some-access-key",
        "AWS_SECRET_ACCESS_KEY": "some-secret-key",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "UNTRIGGER_STORE_PATIENCE": "30",
    }.items():
        monkeypatch.setenv(name, value)
    server = engine.containers.run(
        f"untrigger/seaweedfs:{__version__}",
        seaweedfs_command(objects, port)[1:],
        environment={name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": "mode=1777", str(objects): "size=64m,mode=1777"},
        detach=True,
    )
    try:
        ObjectStore().make_bucket("full")
        small, large = (file_of(tmp_path / f"{mebibytes}", mebibytes * 2**20) for mebibytes in (30, 50))
        ObjectStore().put(small, Address("full", "small"))
        monkeypatch.setenv("UNTRIGGER_STORE_PATIENCE", "3")
        with pytest.raises(UserError, match="see that it runs and that its disk is not full"):
            ObjectStore().put(large, Address("full", "large"))
        assert "no space left on device" in server.logs().decode()
        assert ObjectStore().names(Address("full")) == ["small"]
        ObjectStore().get(Address("full", "small"), tmp_path / "back", checksums(small).sha256)
    finally:
        server.remove(force=True)


ROOT = Path(__file__).parents[2]
COMPOSE_FILES = (ROOT / "docker/compose.yaml", ROOT / "docker/compose.seaweedfs.yaml")


def compose(files: tuple[Path, ...], environment_file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("podman-compose"))
    options = [word for file in files for word in ("-f", str(file))]
    return subprocess.run(
        [program, "--env-file", str(environment_file), *options, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def environment_file(tmp_path: Path) -> Path:
    made = subprocess.run(["make", "compose-env"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "AWS_SECRET" not in made.stdout.replace("AWS_SECRET_ACCESS_KEY=%s", "")
    path = tmp_path / "env"
    shutil.copyfile(ROOT / "docker/.env", path)
    with path.open("a") as file:
        file.write("STORE_ADDRESS=http://127.0.0.1:8333\n")
    return path


@pytest.mark.parametrize("files", [COMPOSE_FILES[:1], COMPOSE_FILES])
def test_the_compose_files_are_valid_and_want_credentials(
    files: tuple[Path, ...], environment_file: Path, tmp_path: Path
) -> None:
    shown = compose(files, environment_file, "config")
    assert shown.returncode == 0, shown.stderr
    for text in ("mlflow", "store", "8333"):
        assert text in shown.stdout
    (tmp_path / "empty").touch()
    refused = compose(files, tmp_path / "empty", "config")
    assert refused.returncode != 0 and "run make compose-env" in refused.stdout + refused.stderr


def test_the_composed_services_work_together(engine: docker.DockerClient, environment_file: Path) -> None:
    files = (*COMPOSE_FILES, Path(__file__).with_name("host-network.yaml"))
    started = compose(files, environment_file, "up", "-d")
    try:
        assert started.returncode == 0, started.stderr
        uri = "http://127.0.0.1:5000"
        wait_for(lambda: answers(f"{uri}/health"))
        track_in_container(engine, "http://mlflow:5000", mlflow="127.0.0.1")
        check_tracked(uri)
        with pytest.raises(docker.errors.ContainerError, match="403"):
            track_in_container(engine, "http://elsewhere:5000", elsewhere="127.0.0.1")
    finally:
        compose(files, environment_file, "down", "-v")


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False
