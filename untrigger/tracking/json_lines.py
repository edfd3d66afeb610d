"""A file to which several processes append JSON objects, one a line, while another reads along."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

POLL_SECONDS = 0.2


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append `value` in one write, so that lines of different processes never mix."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{json.dumps(value)}\n".encode())
    finally:
        os.close(file)


def read_new_lines(file: TextIO) -> list[dict[str, Any]]:
    """The whole lines that `file` holds from where it stands; a line still being written is left for later."""
    values: list[dict[str, Any]] = []
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return values
        values.append(json.loads(line))


@contextmanager
def following(path: Path, handle: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand each line of `path` to `handle`, old and new, in a thread of its own, until the block ends."""
    _drop_cut_line(path)
    ended = threading.Event()

    def follow() -> None:
        with path.open() as file:
            last = False
            while not last:
                last = ended.wait(POLL_SECONDS)
                for value in read_new_lines(file):
                    handle(value)

    thread = threading.Thread(target=follow, name=path.stem)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _drop_cut_line(path: Path) -> None:
    """Make the file, or end it behind its last whole line: a writer that was killed may have left a part of one."""
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
