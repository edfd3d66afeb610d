"""A file to which several processes append JSON objects, one a line, while another reads along."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


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
