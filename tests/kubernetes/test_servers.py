"""The commands of the manifests, run as they stand there, against a real PostgreSQL and a real object store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
import yaml

from tests.support.servers import RunningServers, free_port, running_servers
from tests.support.waiting import wait_for

pytestmark = pytest.mark.kubernetes

ROOT = Path(__file__).parents[2]
PASSWORD = "of-the-database"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL on loopback with the database and the user of the manifest; it runs as no root does."""
    (programs,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    folder, port = Path(tempfile.mkdtemp(prefix="untrigger-postgres-")), free_port()
    user = "postgres" if os.geteuid() == 0 else None
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    data = folder / "data"
    made = [
        str(programs / "initdb"),
        "-D",
        str(data),
        "-U",
        "mlflow",
        "-A",
        "scram-sha-256",
        f"--pwfile={folder / 'password'}",
    ]
    subprocess.run(made, user=user, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1"]
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-p", str(port), *settings],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        connection = wait_for(lambda: _connected(port), 30)
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE mlflow")
        connection.close()
        yield port
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _connected(port: int) -> Any:
    try:
        return psycopg2.connect(host="127.0.0.1", port=port, user="mlflow", password=PASSWORD, dbname="postgres")
    except psycopg2.OperationalError:
        return None


def container(path: str, store: RunningServers, **values: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the manifest's container, with the settings of the overlay seaweedfs."""
    documents = yaml.safe_load_all((ROOT / path).read_text())
    (found,) = (
        each
        for item in documents
        if item["kind"] in ("Deployment", "Job")
        for each in item["spec"]["template"]["spec"]["containers"]
    )
    lines = (ROOT / "k8s/overlays/seaweedfs/store.env").read_text().splitlines()
    given = {
        **dict(line.split("=", 1) for line in lines),
        "endpoint": store.environment["AWS_ENDPOINT_URL"],
        "accessKey": store.environment["AWS_ACCESS_KEY_ID"],
        "secretKey": store.environment["AWS_SECRET_ACCESS_KEY"],
        "password": PASSWORD,
        **values,
    }
    environment: dict[str, str] = {}

    def expanded(text: str) -> str:
        return re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], text)

    for variable in found["env"]:
        (source,) = variable.get("valueFrom", {"": {}}).values()
        environment[variable["name"]] = given[source["key"]] if source else expanded(variable["value"])
    return [expanded(each) for each in found["args"]], environment


def run_server(postgres: int, store: RunningServers, port: int) -> subprocess.Popen[bytes]:
    arguments, environment = container("k8s/base/mlflow.yaml", store)
    uri = environment["MLFLOW_BACKEND_STORE_URI"]
    assert "@postgres:5432/" in uri
    environment["MLFLOW_BACKEND_STORE_URI"] = uri.replace("@postgres:5432/", f"@127.0.0.1:{postgres}/")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    here = ["--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        [sys.executable, ROOT / "docker/mlflow_server.py", *arguments, *here],
        env={"PATH": path, "HOME": os.environ.get("HOME", "/tmp"), **environment},
        start_new_session=True,
    )


def processes(group: int) -> list[int]:
    """The processes of a group."""
    told = subprocess.run(["ps", "-e", "-o", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, pgid in (line.split() for line in told.splitlines()) if int(pgid) == group]


def test_the_tracking_server_comes_up_on_its_database_and_writes_below_its_prefix(
    postgres: int, store: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    port = free_port()
    server = run_server(postgres, store, port)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: server.poll() is not None or _healthy(address), 120)
        assert server.poll() is None, "it ended"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        client = mlflow.MlflowClient(address)
        run = client.create_run("0")
        client.log_text(run.info.run_id, "kept", "note.txt")
        listed = requests.get(
            f"{address}/api/2.0/mlflow-artifacts/artifacts",
            params={"path": f"0/{run.info.run_id}/artifacts"},
            timeout=10,
        ).json()
        assert listed["files"][0]["path"] == "note.txt"
        assert len(processes(server.pid)) <= 4, "no job runner"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    words = [sys.executable, str(ROOT / "docker/check_store.py")]
    assert not subprocess.run([*words, "s3://mlpipeline/untrigger/mlflow"], env=_store_environment(store)).returncode


def _healthy(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=2).ok
    except requests.ConnectionError:
        return False


def _store_environment(store: RunningServers) -> dict[str, str]:
    return {name: value for name, value in store.environment.items() if name.startswith("AWS_")}


def test_the_check_of_the_store_writes_and_reads_and_leaves_nothing(store: RunningServers) -> None:
    from minio import Minio

    address = store.environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    client = Minio(
        address, store.environment["AWS_ACCESS_KEY_ID"], store.environment["AWS_SECRET_ACCESS_KEY"], secure=False
    )
    arguments, environment = container("k8s/check/job/job.yaml", store, bucket="untrigger", trackingBucket="mlflow")
    words = [sys.executable, str(ROOT / "docker/check_store.py"), *arguments]
    checked = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "s3://untrigger/untrigger at http://" in checked.stdout and "s3://mlflow/untrigger/mlflow" in checked.stdout
    assert not list(client.list_objects("untrigger", recursive=True))


def test_a_store_that_keeps_nothing_fails_the_check_in_one_sentence(store: RunningServers) -> None:
    arguments, environment = container("k8s/check/job/job.yaml", store, bucket="nowhere")
    patient = f"import sys; sys.argv = {['check', *arguments]!r}"
    impatient = f"{patient}\nimport check_store, boto3\ncheck_store.PATIENCE_SECONDS = 0\n"
    code = impatient + "check_store.check(sys.argv[1], boto3.client('s3', region_name='us-east-1'))"
    failed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT / "docker", capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1 and failed.stderr.startswith("error: s3://nowhere/untrigger at http://")
    assert failed.stderr.count("\n") == 1
