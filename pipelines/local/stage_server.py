"""The server of a run's stages: a process that has the imports done and is forked for each stage.

It runs apart from the run itself, started by `processes`, and needs the standard library alone to begin.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a person, a batch system or a closed terminal ends a run."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def serve(control_fd: int, preloaded: Sequence[str]) -> None:
    """Import the modules `preloaded`, then fork a stage for each request, until the socket `control_fd` closes.

    A request is one byte with two file descriptors: a socket that gives what to execute, as JSON, and takes what the
    stage prints; and a pipe for its exit status, negative for a signal, as text. No stage outlives the server.
    """
    control = socket.socket(fileno=control_fd)
    # A signal to the whole process group is for the run, which ends its stages by closing the socket.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    for module in preloaded:
        # A stage that needs it meets the same error, and tells it.
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(module)
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    server = os.getpid()
    stages: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control_fd, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_ended(stages)
        if control_fd in ready:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            if not descriptors:
                break
            talk, status = descriptors
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, handlers[number])
                for descriptor in (control_fd, woken, wake, status, *stages.values()):
                    os.close(descriptor)
                os._exit(_stage(talk, server))
            os.close(talk)
            stages[pid] = status
    for pid in stages:
        os.kill(pid, signal.SIGKILL)
    for pid in stages:
        os.waitpid(pid, 0)


def _tell_ended(stages: dict[int, int]) -> None:
    for pid in list(stages):
        ended, wait_status = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = stages.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(status, str(os.waitstatus_to_exitcode(wait_status)).encode())
            os.close(status)


def _stage(talk: int, server: int) -> int:
    """Execute one stage in this process, its output going to `talk`; its exit status."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        return 1
    with socket.socket(fileno=talk) as connection:
        with connection.makefile("rb") as file:
            request = json.load(file)
        os.dup2(talk, 1)
        os.dup2(talk, 2)
    prctl(_PR_SET_NAME, request["name"].encode()[:15])
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)
    try:
        _execute(request)
        return 0
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def _execute(request: dict[str, Any]) -> None:
    """As the command of a lightweight component does it, in KFP's own words."""
    os.environ.clear()
    os.environ.update(request["environment"])
    program = Path(request["folder"]) / "ephemeral_component.py"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(request["program"], encoding="utf-8")
    sys.argv = ["executor_main", "--component_module_path", str(program), *request["arguments"]]
    from kfp.dsl.executor_main import executor_main

    executor_main()
