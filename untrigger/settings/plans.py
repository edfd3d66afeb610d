"""What the tasks of the loops do, as KFP's loops carry it and as it is tracked: text, which is parsed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from untrigger.settings.stairs import TOP, TOP_NAME, beta_name

T = TypeVar("T")


def joined(items: Iterable[float | str]) -> str:
    """Numbers or names joined by commas."""
    return ",".join(map(str, items))


def batched(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """The items in parts of `size`, the last part as long as there are items left."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def _parted(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


ELSEWHERE = "single_trigger_elsewhere"
"""The control that takes its triggers from another model: like the ideal one it needs the true trigger."""

Methods = Annotated[tuple[str, ...], BeforeValidator(_parted), PlainSerializer(joined)]
Betas = Annotated[tuple[float, ...], BeforeValidator(_parted), PlainSerializer(joined)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_parted), PlainSerializer(joined)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_parted), PlainSerializer(joined)]


def lines(names: Iterable[str]) -> str:
    """Names of files and addresses, which may hold commas: one a line."""
    return "\n".join(names)


def of_lines(value: Any) -> Any:
    """The names in such lines."""
    return value.splitlines() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(of_lines), PlainSerializer(lines)]


def method_of(beta: float) -> str:
    """The name of the defence that samples the stair of `beta` alone."""
    return f"beta={beta_name(beta)}"


def beta_of(method: str) -> float | None:
    """The beta of a defence that samples one stair alone, None of any other."""
    if not method.startswith("beta="):
        return None
    name = method.removeprefix("beta=")
    return TOP if name == TOP_NAME else float(name)
