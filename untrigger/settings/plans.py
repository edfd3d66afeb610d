"""What the tasks of the loops do, as KFP's loops carry it and as it is tracked: text, which is parsed once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer


def joined(numbers: Iterable[float]) -> str:
    """Numbers joined by commas."""
    return ",".join(map(str, numbers))


def _parted(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


Betas = Annotated[tuple[float, ...], BeforeValidator(_parted), PlainSerializer(joined)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_parted), PlainSerializer(joined)]


def method_of(beta: float) -> str:
    """The name of the defence that samples the stair of `beta` alone."""
    return f"beta={beta}"


def beta_of(method: str) -> float | None:
    """The beta of a defence that samples one stair alone, None of any other."""
    return float(method.removeprefix("beta=")) if method.startswith("beta=") else None
