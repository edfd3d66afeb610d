"""How far a mean of few values may be from the truth."""

from __future__ import annotations

import math


def error95(standard_error: float, count: int) -> float:
    """Half the width of the 95 % interval of the mean of `count` values, or paired differences, by Student's t.

    standard_error: the sample standard deviation of the values over the root of `count`, which must be at least 2.
    """
    from scipy.special import stdtrit  # most stages compare nothing, and their images do without

    return float(stdtrit(count - 1, 0.975)) * standard_error


def difference_error95(std: float, count: int, other_std: float, other_count: int) -> float:
    """Half the width of the 95 % interval of the difference of two means of independent values.

    std, count: the sample standard deviation of the values behind each mean, and how many they are, at least 2; where
    only two have the larger spread, it may hold the truth in as few as 88 of 100 cases. Source: Welch, "The
    generalization of 'Student's' problem when several different population variances are involved" (1947).
    """
    from scipy.special import stdtrit

    one, other = std**2 / count, other_std**2 / other_count
    if not one + other:
        return 0.0
    freedom = (one + other) ** 2 / (one**2 / (count - 1) + other**2 / (other_count - 1))
    return float(stdtrit(freedom, 0.975)) * math.sqrt(one + other)
