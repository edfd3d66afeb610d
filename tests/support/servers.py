"""A real object store and a real MLflow server for the tests, on free ports."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from untrigger.storage.servers import NAMES, Servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningServers:
    """Servers on ports of their own; `environment` is what their users need."""

    def __init__(self, folder: Path) -> None:
        self.servers = Servers(folder)
        self.store_port, self.tracking_port = free_port(), free_port()

    def up(self) -> None:
        self.servers.up(self.store_port, self.tracking_port)

    def kill(self, name: str) -> None:
        """SIGKILL one of them with its children."""
        os.killpg(int((self.servers.folder / f"{name}.pid").read_text()), signal.SIGKILL)

    @property
    def environment(self) -> dict[str, str]:
        return self.servers.environment()


@contextmanager
def running_servers(folder: Path) -> Iterator[RunningServers]:
    running = RunningServers(folder)
    running.up()
    try:
        yield running
    finally:
        for name in NAMES:
            running.kill(name)
