"""What a person sees while a run is going on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from untrigger.tracking.json_lines import following
from untrigger.tracking.progress import Event, duration, is_tenth

FINISHED_SHOWN = 15
"""Bars of finished stages that stay: a sweep has hundreds."""

LONGEST_SILENCE = 30.0
"""Seconds after which a line is due, whatever little has been done."""


@contextmanager
def watching(progress_file: Path, console: Console) -> Iterator[None]:
    """Show the events that stages append to `progress_file` as they come, until the block ends."""
    with (
        _bars(console) if console.is_terminal else _Lines(console) as display,
        following(progress_file, lambda values: display.show(Event(**values))),
    ):
        yield


@contextmanager
def showing_work(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """What a library call says of its work: its name, how much is done, and of how much.

    Lines come at every tenth, and wherever the last one of that work is `LONGEST_SILENCE` old.
    """
    began: dict[str, float] = {}
    told: dict[str, float] = {}
    with _bars(console) if console.is_terminal else _Lines(console) as display:

        def on_work(work: str, done: int, total: int) -> None:
            if done == 1:
                began.pop(work, None)
            now = time.monotonic()
            start = began.setdefault(work, now)
            long_ago = now - max(start, told.get(work, start)) >= LONGEST_SILENCE
            if console.is_terminal or is_tenth(done, total) or long_ago:
                told[work] = now
                left = (now - start) / (done - 1) * (total - done) if 1 < done < total else None
                display.show(Event(work, "step", f"{done} of {total}", done, total, left))

        yield on_work


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        # Not print: KFP replaces it, in all threads, by one that indents. A run goes on without its reader.
        with suppress(BrokenPipeError):
            self._console.file.write(event.line() + "\n")
            self._console.file.flush()


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._finished: deque[TaskID] = deque()

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        if event.kind == "warning":
            self._progress.console.print(Text(event.line()))
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._progress.add_task(event.stage, total=None, text="")
        task = self._tasks[event.stage]
        if event.kind == "step":
            left = "" if event.seconds_left is None else f" ({duration(event.seconds_left)} left)"
            self._progress.update(task, completed=event.done, total=event.total, text=event.text + left)
        elif event.kind in ("finished", "reused"):
            self._progress.update(task, completed=1, total=1, text=f"{event.kind} {event.text}".rstrip())
            self._progress.stop_task(task)
            self._finished.append(task)
            if len(self._finished) > FINISHED_SHOWN:
                self._progress.update(self._finished.popleft(), visible=False)
        else:
            self._progress.update(task, text=f"{event.kind} {event.text}".rstrip())


def _bars(console: Console) -> _Bars:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    return _Bars(Progress(*columns, console=console))
