"""Intervals of means of few values."""

from __future__ import annotations

import pytest
import torch

from untrigger.intervals import error95


@pytest.mark.parametrize(("count", "factor"), [(2, 12.706), (3, 4.303), (8, 2.365), (31, 2.042)])
def test_the_interval_is_as_many_standard_errors_wide_as_tables_of_students_t_say(count: int, factor: float) -> None:
    assert error95(2.0, count) == pytest.approx(2 * factor, abs=2e-3)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_nineteen_of_twenty_intervals_hold_the_mean(count: int, rng: torch.Generator) -> None:
    values = torch.randn(20000, count, generator=rng, dtype=torch.float64)
    errors = values.std(1) / count**0.5 * error95(1.0, count)
    assert (values.mean(1).abs() <= errors).double().mean().item() == pytest.approx(0.95, abs=0.006)
