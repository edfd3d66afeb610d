"""What a command costs."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Mapping, Sequence


def with_cpu_seconds(words: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """What a command says, and the seconds of a processor it takes: its waiting for other processes is not its own."""
    before = _spent()
    ended = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return ended.stdout, _spent() - before


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
