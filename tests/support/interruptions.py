"""Trainings that are interrupted and go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from untrigger.snapshots import Clock, Snapshot

T = TypeVar("T")


class Kept:
    """A place of snapshots in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.contents.get(name)

    def write(self, name: str, content: bytes) -> None:
        self.contents[name] = content


class Interrupted(Exception):
    """What stops a training in the middle."""


def interrupted_after(train: Callable[[Snapshot, Callable[[int], None]], T], number: int) -> T:
    """What a training gives that is stopped when it calls back for the epoch `number`, and then made anew.

    It is kept after each epoch. `train` takes a snapshot and a callback for the number of each epoch.
    """
    place = Kept()
    epochs: list[int] = []

    def stop(epoch: int) -> None:
        if epoch == number:
            raise Interrupted

    try:
        train(Snapshot(place, "training", Clock(0)), stop)
    except Interrupted:
        pass
    else:
        raise AssertionError(f"it has no epoch {number}")
    result = train(Snapshot(place, "training", Clock(0)), epochs.append)
    assert epochs[0] == number, "it goes on where it was kept"
    return result
