"""The processes of a local run: each stage has its own, forked from a server that has the imports done."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from untrigger import stages
from untrigger.pipelines.local.endings import LAST_LINES, StageEnd, stopping_first

PRELOADED = (
    "kfp.dsl.executor_main",
    "sklearn.datasets",
    "sklearn.manifold",
    "sklearn.model_selection",
    "safetensors.torch",
    *(f"{stages.__name__}.{module.name}" for module in pkgutil.iter_modules(stages.__path__)),
)
"""What stages import, so that the server has it before them."""

_WARNINGS = ("-W", "ignore::FutureWarning")

_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from untrigger.pipelines.local.stage_server import serve
serve(int(sys.argv[2]), sys.argv[3:])
"""


class StageProcesses:
    """Starts the stages' processes; `ended_badly` are those that failed or were killed."""

    def __init__(self) -> None:
        self.ended_badly: list[StageEnd] = []
        self._asked = False
        self._control, theirs = socket.socketpair()
        # Isolated: neither PYTHON* variables nor the working directory say what the stages import.
        options = ["-I", *(["-B"] if sys.dont_write_bytecode else []), "-X", "faulthandler", *_WARNINGS]
        path = json.dumps([entry for entry in sys.path if entry])
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, *options, "-c", _START, path, str(theirs.fileno()), *PRELOADED],
                env={**os.environ, "_KFP_RUNTIME": "true"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Execute the command of a lightweight component, print what it prints; its status, negative for a signal."""
        program, *arguments = full_command[3:]
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        name = given["--function_to_execute"]
        request = {
            "name": name,
            "environment": {**os.environ, "_KFP_RUNTIME": "true", **(env_vars or {})},
            "folder": str(Path(json.loads(given["--executor_input"])["outputs"]["outputFile"]).parent),
            "program": program,
            "arguments": arguments,
        }
        last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._asked = True
        status, told = os.pipe()
        ours, theirs = socket.socketpair()
        with ours, os.fdopen(status) as exit_status:
            # A stage, or the server, that is killed closes its end at any moment.
            with contextlib.suppress(OSError):
                try:
                    socket.send_fds(self._control, [b"\0"], [theirs.fileno(), told])
                finally:
                    theirs.close()
                    os.close(told)
                ours.sendall(json.dumps(request).encode())
                ours.shutdown(socket.SHUT_WR)
                with ours.makefile(encoding="utf-8", errors="replace") as lines:
                    for line in lines:
                        print(line, end="")
                        last_lines.append(line.rstrip())
            print("\n")
            code = exit_status.read()
        if code != "0":
            self.ended_badly.append(self._end(name, code, [line for line in last_lines if line]))
        return int(code or -signal.SIGKILL)

    def _end(self, stage: str, code: str, last_lines: list[str]) -> StageEnd:
        if code:
            return StageEnd(stage, int(code), f"the process of {stage} {_ended(int(code))}", last_lines)
        assert self._server.stderr is not None
        told = [*last_lines, *self._server.stderr.read().splitlines()][-LAST_LINES:]
        server = self._server.wait()
        return StageEnd(stage, server, f"the server of the stages' processes {_ended(server)}", told)

    def stop(self) -> None:
        """Kill the stages that run; none starts from now on."""
        self._control.close()

    def close(self) -> None:
        """End the server, and wait until it and all its stages are gone."""
        self.stop()
        if not self._asked:
            # It may still be importing, and has no stages to see off.
            self._server.kill()
        self._server.communicate()

    @contextmanager
    def taking_tasks(self) -> Iterator[list[StageEnd]]:
        """Within the block, the tasks of `kfp.local.SubprocessRunner` are started here; it gives `ended_badly`."""
        from kfp.local import subprocess_task_handler

        start = subprocess_task_handler.run_local_subprocess
        subprocess_task_handler.run_local_subprocess = self.run
        try:
            yield self.ended_badly
        finally:
            subprocess_task_handler.run_local_subprocess = start


@contextmanager
def stage_processes() -> Iterator[StageProcesses]:
    """The processes of a run, whose server imports what they need meanwhile; none is left after the block."""
    processes = StageProcesses()
    try:
        with stopping_first(processes.stop):
            yield processes
    finally:
        processes.close()


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
