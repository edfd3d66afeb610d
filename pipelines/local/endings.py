"""How stages end that do not end well, and how a run that is ended from outside ends its stages first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from untrigger.pipelines.local.stage_server import ENDING

LAST_LINES = 15
TOLD = 2
"""The exit status of a stage that has said in one sentence what the user must mend."""


@dataclass(frozen=True)
class StageEnd:
    """A stage that did not end well: why, in words, and the last lines of its output."""

    stage: str
    exit_code: int
    reason: str
    last_lines: Sequence[str] = ()


@contextmanager
def stopping_first(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, a signal that ends the run calls `stop` before whatever else it does.

    KFP finishes what waits in a loop before it lets an interrupt through: without stages, that is at once. Signals that
    are ignored, or end this process on the spot, stay as they are.
    """

    def stopping(handler: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            stop()
            handler(number, frame)

        return handle

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in ENDING if callable(handler := signal.getsignal(number))}
    for number, handler in before.items():
        signal.signal(number, stopping(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
