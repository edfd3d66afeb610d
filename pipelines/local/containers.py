"""The containers of a local run: how the Docker engine starts them, and what became of them.

Every stage runs in its own image, without a network, on a read-only root, without capabilities, and sees of this
machine only the run's artifacts and, read-only, the dataset.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException
from docker.types import DeviceRequest, Mount
from requests import RequestException

import docker
from untrigger.errors import UserError
from untrigger.pipelines.local.endings import LAST_LINES, StageEnd, stopping_first
from untrigger.runs.output_folder import OutputFolder

RUN_LABEL = "untrigger.run"
UNPRIVILEGED = 10001
"""User and group of a container when the run was started by root."""


@dataclass(frozen=True)
class ContainerOptions:
    """What the containers of a run may use: `gpus` is "all" or a number, `memory` a size such as 8g."""

    gpus: str | None = None
    memory: str = "8g"

    def __post_init__(self) -> None:
        if self.gpus is not None and self.gpus != "all" and not (self.gpus.isdigit() and int(self.gpus)):
            raise UserError(f"--gpus must be all or a number from 1, got {self.gpus!r}")
        if not re.fullmatch(r"[1-9]\d*[bkmg]?", self.memory):
            raise UserError(f"--memory must be a number with b, k, m or g behind it, such as 8g, got {self.memory!r}")


def check_engine(images: Iterable[str]) -> None:
    """UserError when no engine answers, or when one of the pipeline's `images` is missing."""
    try:
        client = docker.from_env()
        there = {tag for image in client.images.list() for tag in image.tags}
        client.close()
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "its usual socket")
        raise UserError(
            f"no Docker engine answers at {where}: start it, or leave out --runner docker ({error})"
        ) from error
    missing = sorted({*images} - there)
    if missing:
        raise UserError(f"the engine has no image {', '.join(missing)}: build them with `make images`")


def docker_runner(
    environment: Mapping[str, str], output: OutputFolder, sources: Sequence[Path], options: ContainerOptions
) -> Any:
    """The runner that starts every stage of the run in `output`; `sources` are files and folders that it may read."""
    from kfp import local

    user, group = os.getuid(), os.getgid()
    if user == 0:
        user = group = UNPRIVILEGED
    for path in (output.workspace, output.stages):
        path.mkdir(exist_ok=True)
    for path in (output.progress, output.tracking_records):
        path.touch()
    written = (output.workspace, output.stages, output.progress, output.tracking_records)
    if os.getuid() == 0:
        for path in (*written, *output.stages.rglob("*")):
            os.chown(path, user, group, follow_symlinks=False)
    mounts = [Mount(str(path), str(path), type="bind") for path in written if path != output.workspace]
    readable = dict.fromkeys(str(path.absolute()) for path in sources)
    mounts += [Mount(path, path, type="bind", read_only=True) for path in readable]
    gpus = {} if options.gpus is None else {"device_requests": [_gpus(options.gpus)]}
    return local.DockerRunner(
        environment=dict(environment),
        mounts=mounts,
        user=f"{user}:{group}",
        working_dir=str(Path.cwd()),
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": "size=1g,mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=options.memory,
        memswap_limit=options.memory,
        pids_limit=1024,
        labels={RUN_LABEL: output.run_id},
        **gpus,
    )


@contextmanager
def watching_containers(run_id: str, memory: str) -> Iterator[list[StageEnd]]:
    """Collects the containers of a run that end badly, with their last lines; none outlives the block.

    `memory` is what each may use.

    KFP removes a container as soon as it ends, and with some engines takes a vanished one for a success: the engine's
    own events tell what happened.
    """
    client = docker.from_env()
    watch = _Watch(client, run_id, memory)
    thread = threading.Thread(target=watch.follow, name="containers", daemon=True)
    thread.start()
    try:
        with stopping_first(watch.stop_containers):
            yield watch.ended_badly
    finally:
        watch.stop()
        thread.join(timeout=10)
        client.close()


class _Watch:
    def __init__(self, client: Any, run_id: str, memory: str) -> None:
        self._client = client
        self._memory = memory
        self._label = f"{RUN_LABEL}={run_id}"
        self._stopping = False
        self.events = client.events(decode=True, filters={"type": "container", "label": self._label})
        self.ended_badly: list[StageEnd] = []
        self._lines: dict[str, tuple[deque[str], threading.Thread]] = {}
        self._out_of_memory: set[str] = set()

    def stop(self) -> None:
        self.stop_containers()
        self.events.close()

    def stop_containers(self) -> None:
        """Kill those that run, and from now on each that starts."""
        self._stopping = True
        with contextlib.suppress(DockerException, RequestException):
            for container in self._client.containers.list(filters={"label": self._label}, ignore_removed=True):
                self._kill(container.id)

    def _kill(self, container: str) -> None:
        with contextlib.suppress(DockerException, RequestException):
            self._client.api.kill(container)

    def follow(self) -> None:
        for event in self.events:
            container, action = event["Actor"]["ID"], event["Action"]
            if action == "start" and self._stopping:
                self._kill(container)
            elif action == "start":
                lines: deque[str] = deque(maxlen=LAST_LINES)
                thread = threading.Thread(target=self._read, args=(container, lines), daemon=True)
                thread.start()
                self._lines[container] = lines, thread
            elif action == "oom":
                self._out_of_memory.add(container)
            elif action == "die":
                self._note_end(container, event["Actor"]["Attributes"])

    def _read(self, container: str, lines: deque[str]) -> None:
        try:
            for line in self._client.api.logs(container, stream=True, follow=True):
                lines.append(line.decode(errors="replace").rstrip())
        except APIError:
            lines.append("(it ended before its output could be read)")

    def _note_end(self, container: str, attributes: Mapping[str, str]) -> None:
        lines, thread = self._lines.pop(container, (deque(), threading.Thread()))
        exit_code = int(attributes.get("exitCode", 0))
        if exit_code:
            if thread.ident is not None:
                thread.join(timeout=5)
            stage = attributes.get("image", "").rpartition("/")[2].partition(":")[0]
            reason = f"the container of {stage} {self._how(container, exit_code)}"
            self.ended_badly.append(StageEnd(stage, exit_code, reason, [line for line in lines if line]))

    def _how(self, container: str, exit_code: int) -> str:
        if container in self._out_of_memory:
            return f"ran out of its memory of {self._memory} (--memory gives it more)"
        return "was killed" if exit_code == 137 else f"ended with status {exit_code}"


def _gpus(gpus: str) -> Any:
    return DeviceRequest(count=-1 if gpus == "all" else int(gpus), capabilities=[["gpu"]])
