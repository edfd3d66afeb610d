"""What commands say beside their results, and the statuses they end with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_BACKDOOR = 3
EXIT_NOT_CALIBRATED = 4
EXIT_UNTRACKED = 5
EXIT_INTERRUPTED = 130


def show_file(path: str, done: int, total: int, moved: bool) -> None:
    """An `OnFile` that says one line on standard error."""
    click.echo(f"{done} of {total}: {path}{'' if moved else ' (already there)'}", err=True)


def tell(text: str) -> None:
    """Say something on standard error, where it does not mix with results."""
    click.echo(text, err=True)


@contextmanager
def signals_raised() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP come as a KeyboardInterrupt that holds their number, unless ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _debug_too(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        context.find_root().params["debug"] = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_debug_too, help="Show the traceback of an error."
)
"""`--debug` behind a command, where people add it, as well as before."""
