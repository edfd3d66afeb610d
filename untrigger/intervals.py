"""How far a mean of few values may be from the truth."""

from __future__ import annotations


def error95(standard_error: float, count: int) -> float:
    """Half the width of the 95 % interval of the mean of `count` values, or paired differences, by Student's t.

    standard_error: the sample standard deviation of the values over the root of `count`, which must be at least 2.
    """
    from scipy.special import stdtrit  # most stages compare nothing, and their images do without

    return float(stdtrit(count - 1, 0.975)) * standard_error
