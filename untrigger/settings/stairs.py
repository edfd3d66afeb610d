"""The stairs: their betas, and the weights gamma with which the ensemble draws from them."""

from __future__ import annotations

import math


def checked_betas(betas: tuple[float, ...]) -> tuple[float, ...]:
    """The betas, or ValueError: at least one, each in (0, 1), no two alike."""
    if not betas:
        raise ValueError("at least one beta is needed, got none: try 0.5,0.8,0.9")
    for beta in betas:
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie in (0, 1), got {beta:g}")
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
