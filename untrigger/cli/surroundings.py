"""What a command finds around it and sets right before it begins: proxies and the encoding of its output."""

from __future__ import annotations

import codecs
import io
import os
import sys

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""This very machine, which no proxy reaches."""

_STAND_INS = {"±": "+-", "✓": "v"}


def spare_loopback() -> None:
    """Let this process, and those that it starts, reach servers on this machine without a proxy."""
    spared = [name for name in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")).split(",") if name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(dict.fromkeys((*spared, *LOOPBACK)))


def write_what_can_be_written() -> None:
    """Let something stand in for what the encoding of the output lacks, where writing it would end the command."""
    codecs.register_error("untrigger", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="untrigger")


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(letter, ascii(letter)[1:-1]) for letter in lacking), error.end
