"""The stairs: their betas, and the weights gamma with which the ensemble draws from them."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

from untrigger.errors import UserError

TOP = 1.0
"""The beta that stands for the top stair, whose level of F a flow finds in training; no softmax reaches 1."""

TOP_NAME = "top"


def _read(value: Any) -> Any:
    return TOP if value == TOP_NAME else value


Beta = Annotated[float, BeforeValidator(_read)]
"""A level of F in (0, 1), or TOP, which a user may spell out."""


def beta_given(text: str) -> float:
    """The beta that a user names; UserError when it is none."""
    try:
        return checked_betas((float(_read(text)),))[0]
    except ValueError as error:
        raise UserError(f"no stair is called {text!r}: give a beta between 0 and 1, or {TOP_NAME}") from error


def beta_name(beta: float) -> str:
    """What a person reads."""
    return TOP_NAME if beta == TOP else f"{beta}"


def checked_betas(betas: tuple[float, ...]) -> tuple[float, ...]:
    """The betas, or ValueError: at least one, each in (0, 1) or TOP, no two alike."""
    if not betas:
        raise ValueError("at least one beta is needed, got none: try 0.5,0.8,0.9")
    for beta in betas:
        if not 0 < beta <= TOP:
            raise ValueError(f"beta must lie in (0, 1) or be {TOP_NAME}, got {beta:g}")
    if len(set(betas)) != len(betas):
        raise ValueError(f"betas must differ from each other, got {', '.join(f'{beta:g}' for beta in betas)}")
    return betas


def checked_gammas(gammas: tuple[float, ...], stairs: int) -> tuple[float, ...]:
    """The weights, or ValueError: one per stair, none negative, not all zero."""
    if len(gammas) != stairs:
        raise ValueError(f"gammas must be one per beta ({stairs}), got {len(gammas)}")
    if min(gammas) < 0 or not math.fsum(gammas) > 0:
        raise ValueError(f"gammas must not be negative and not all zero, got {', '.join(f'{g:g}' for g in gammas)}")
    return gammas
