"""Progress of the stages: lines for a person, and the same as events for a program that watches."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from untrigger.tracking.json_lines import append_line, read_new_lines

PROGRESS_FILE = "UNTRIGGER_PROGRESS"
"""Environment variable: the file to which stages append their events, one JSON object a line."""

Kind = Literal["started", "step", "finished", "reused", "failed", "warning", "waits", "terminated", "omitted"]
"""The last three only of a stage on a cluster: no pod of it runs yet; somebody ended the run; it will never run."""


@dataclass(frozen=True)
class Event:
    """One thing that a stage has to say."""

    stage: str
    kind: Kind
    text: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    time: float = field(default_factory=time.time, compare=False)

    def line(self) -> str:
        """The event as one plain line."""
        parts = [f"{self.stage}:"]
        parts.append(self.text if self.kind == "step" else f"{self.kind} {self.text}".rstrip())
        if self.seconds_left is not None:
            parts.append(f"({duration(self.seconds_left)} left)")
        return " ".join(parts)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `1 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def is_tenth(done: int, total: int) -> bool:
    """Whether work of many short steps is worth a line: ten in all, the last among them."""
    return done == total or done % -(-total // 10) == 0


class Reporter:
    """Says how far a stage is: on standard output, and in the file named by UNTRIGGER_PROGRESS if it is set."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._first: dict[str, tuple[float, int]] = {}

    def say(self, kind: Kind, text: str = "") -> None:
        """Report a change of state."""
        self._emit(Event(self.stage, kind, text))

    def begin(self, work: str) -> None:
        """Start the clock of `work`, so that the first step already tells the time left."""
        self._first.setdefault(work, (time.monotonic(), 0))

    def step(self, work: str, done: int, total: int, text: str = "") -> None:
        """Report `done` of `total` units of `work` (such as "epoch"); the time left follows from those before."""
        now = time.monotonic()
        began, skipped = self._first.setdefault(work, (now, done))
        left = (now - began) / (done - skipped) * (total - done) if skipped < done < total else None
        head = f"{work} {done} of {total}"
        self._emit(Event(self.stage, "step", f"{head}, {text}" if text else head, done, total, left))

    def _emit(self, event: Event) -> None:
        print(event.line(), flush=True)
        if path := os.environ.get(PROGRESS_FILE):
            append_line(Path(path), asdict(event))


def read_events(file: TextIO) -> list[Event]:
    """The events that `file` holds from where it stands."""
    return [Event(**values) for values in read_new_lines(file)]


def failures(path: Path) -> list[Event]:
    """The events of stages that failed and said why."""
    return [event for event in _all_events(path) if event.kind == "failed"]


def unfinished_stages(path: Path) -> list[str]:
    """The stages that began and neither finished nor failed, in the order of their beginning."""
    last = {event.stage: event.kind for event in _all_events(path) if event.kind != "step"}
    return [stage for stage, kind in last.items() if kind == "started"]


def _all_events(path: Path) -> list[Event]:
    if not path.exists():
        return []
    with path.open() as file:
        return read_events(file)
