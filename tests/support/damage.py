"""Damaged and invented files, for hypothesis to draw."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, -0.0])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with bits flipped, bytes cut out, put in, or two parts of it swapped."""
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from([_flipped, _cut, _widened, _swapped]))(draw, content)
    return content


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value in which up to three places hold something else, or nothing."""
    for _ in range(draw(st.integers(1, 3))):
        value = _altered(draw, value)
    return value


def _altered(draw: st.DrawFn, value: Any) -> Any:
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 5)) == 0:
        return draw(JSON_VALUES)
    place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    rest = dict(value) if isinstance(value, dict) else list(value)
    if draw(st.integers(0, 5)) == 0:
        del rest[place]
    else:
        rest[place] = _altered(draw, rest[place])
    return rest


def _place(draw: st.DrawFn, content: bytes) -> int:
    return draw(st.integers(0, len(content)))


def _flipped(draw: st.DrawFn, content: bytes) -> bytes:
    at = _place(draw, content)
    return (
        content[:at] + bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in content[at : at + 1]) + content[at + 1 :]
    )


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + content[at + draw(st.integers(1, max(1, len(content)))) :]


def _widened(draw: st.DrawFn, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]


def _swapped(draw: st.DrawFn, content: bytes) -> bytes:
    first, middle, last = sorted(_place(draw, content) for _ in range(3))
    return content[:first] + content[middle:last] + content[first:middle] + content[last:]
