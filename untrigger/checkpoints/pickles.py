"""What a pickle would do, found out without doing it: the names that it asks for, and what would take for ever.

The operations are followed on a stack on which values stand for themselves only as far as it takes to judge them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LARGEST_TUPLE = 10_000
"""Values in a tuple and in the tuples within it, each as often as it would be hashed."""

ENCODE, ENCODING = "_codecs.encode", "latin1"
"""How bytes are written by old protocols; other codecs may take for ever."""

_PUT_TOGETHER = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
_GETS, _PUTS = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Value:
    """text: of a string or a global; parts: of a tuple; size: values in it, those within it counted each time."""

    text: str = ""
    parts: tuple[_Value, ...] = ()
    size: int = 1


_MARK = _Value("mark")


def names_asked_for(file: Any) -> Iterator[str]:
    """The names that one pickle asks for, from its first operation to its last.

    Raises ValueError for a tuple that would take for ever to hash, and for a codec that is not the usual one; anything
    else where the pickle is damaged.
    """
    machine = _Machine()
    for operation, value, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            yield str(value).replace(" ", ".")
        elif operation.name in _PUT_TOGETHER:
            yield f"a name that is put together ({operation.name})"
        machine.follow(operation, value)


@dataclass
class _Machine:
    """The stack and the memory of what reads a pickle."""

    stack: list[_Value] = field(default_factory=list)
    memory: dict[int, _Value] = field(default_factory=dict)

    def follow(self, operation: pickletools.OpcodeInfo, value: Any) -> None:
        """What one operation does with them."""
        name = operation.name
        if name in _GETS:
            self.stack.append(self.memory[int(value)])
        elif name in _PUTS or name == "MEMOIZE":
            self.memory[len(self.memory) if value is None else int(value)] = self.stack[-1]
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "TUPLE":
            self._push_tuple(self._to_mark())
        elif name in _TUPLES:
            self._push_tuple([self.stack.pop() for _ in range(_TUPLES[name])][::-1])
        elif name == "GLOBAL":
            self.stack.append(_Value(str(value).replace(" ", ".")))
        else:
            self._any_other(operation, value)

    def _push_tuple(self, parts: list[_Value]) -> None:
        size = 1 + sum(part.size for part in parts)
        if size > LARGEST_TUPLE:
            raise ValueError("a tuple in it is nested so deep that it would never be read")
        self.stack.append(_Value("", tuple(parts), size))

    def _any_other(self, operation: pickletools.OpcodeInfo, value: Any) -> None:
        """Take what the operation takes, leave what it leaves."""
        before, taken = list(operation.stack_before), list[_Value]()
        if pickletools.markobject in before:
            taken = self._to_mark()
            before = before[: before.index(pickletools.markobject)]
        taken = [self.stack.pop() for _ in before][::-1] + taken
        encodes = operation.name == "REDUCE" and taken[0].text == ENCODE
        if encodes and [part.text for part in taken[1].parts[1:]] != [ENCODING]:
            raise ValueError(f"bytes in it are written by another codec than {ENCODING}")
        for left in operation.stack_after:
            text = value if isinstance(value, str) else ""
            self.stack.append(_MARK if left is pickletools.markobject else _Value(text))

    def _to_mark(self) -> list[_Value]:
        """What lies above the last mark, which goes as well."""
        taken: list[_Value] = []
        while (value := self.stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]
