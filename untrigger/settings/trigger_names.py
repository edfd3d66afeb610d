"""What the names of triggers stand for."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from untrigger.artifacts import read_text
from untrigger.settings.base import home_expanded

BINARY_PATTERNS = 51
"""Black-and-white 3x3 patterns, one per class under rotation, reflection and inversion."""

LONGEST_RANGE = 10_000
"""More triggers than any sweep plants: a longer range is a slip of the hand."""


def is_pattern(name: str) -> bool:
    """Whether a name is that of a known 3x3 pattern, which no file or store has to give."""
    kind, _, number = name.partition(":")
    known = number.isdecimal() and (kind == "colour" or (kind == "binary" and int(number) < BINARY_PATTERNS))
    return known or name == "checkerboard"


def expanded_triggers(names: tuple[str, ...]) -> tuple[str, ...]:
    """The triggers that `names` stand for, or ValueError: at least one, no two alike.

    UserError when a list of triggers cannot be read.
    """
    triggers = tuple(trigger for name in names for trigger in _expanded(name))
    if not triggers:
        raise ValueError("at least one trigger is needed, got none: try binary:0-5,colour:0-1")
    repeated = sorted(trigger for trigger, times in Counter(triggers).items() if times > 1)
    if repeated:
        raise ValueError(f"triggers must differ from each other, got {', '.join(repeated)} more than once")
    return triggers


def _expanded(name: str, lists: tuple[str, ...] = ()) -> list[str]:
    """What one name stands for, which was read in `lists`, one inside the other."""
    name = home_expanded(name)
    if name == "binary":
        name = f"binary:0-{BINARY_PATTERNS - 1}"
    if found := re.fullmatch(r"(binary|colour):(\d+)-(\d+)", name):
        kind, first, last = found[1], int(found[2]), int(found[3])
        if first > last:
            raise ValueError(f"a range of triggers goes from low to high, got {name!r}")
        if last - first >= LONGEST_RANGE:
            raise ValueError(f"a range of triggers holds at most {LONGEST_RANGE}, got {name!r}")
        return [f"{kind}:{number}" for number in range(first, last + 1)]
    if name.endswith(".txt"):
        if name in lists:
            raise ValueError(f"the list of triggers {name} must not lead back to itself")
        lines = [line.strip() for line in read_text(Path(name), f"the list of triggers {name}").splitlines()]
        meant = [line for line in lines if line and not line.startswith("#")]
        return [trigger for line in meant for trigger in _expanded(line, (*lists, name))]
    return [name]
