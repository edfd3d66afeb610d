"""Which processes belong to a command that a test has started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def processes_of(session: int, name: str = "") -> Iterator[int]:
    """The living processes of a session, with a name only those that go by it."""
    for folder in sorted(Path("/proc").glob("[0-9]*")):
        try:
            identity, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state not in "ZX" and name in ("", identity.partition("(")[2]):
            yield int(folder.name)
