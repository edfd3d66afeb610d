"""Intervals of means of few values."""

from __future__ import annotations

import pytest
import torch

from untrigger.intervals import difference_error95, error95


@pytest.mark.parametrize(("count", "factor"), [(2, 12.706), (3, 4.303), (8, 2.365), (31, 2.042)])
def test_the_interval_is_as_many_standard_errors_wide_as_tables_of_students_t_say(count: int, factor: float) -> None:
    assert error95(2.0, count) == pytest.approx(2 * factor, abs=2e-3)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_nineteen_of_twenty_intervals_hold_the_mean(count: int, rng: torch.Generator) -> None:
    values = torch.randn(20000, count, generator=rng, dtype=torch.float64)
    errors = values.std(1) / count**0.5 * error95(1.0, count)
    assert (values.mean(1).abs() <= errors).double().mean().item() == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(
    ("counts", "deviations", "share"), [((3, 3), (1, 1), 0.95), ((3, 5), (1, 4), 0.95), ((2, 8), (3, 1), 0.88)]
)
def test_an_interval_of_a_difference_holds_it_in_nineteen_of_twenty_cases_but_where_two_values_spread_most(
    counts: tuple[int, int], deviations: tuple[float, float], share: float, rng: torch.Generator
) -> None:
    def drawn(count: int, deviation: float) -> torch.Tensor:
        return deviation * torch.randn(4000, count, generator=rng, dtype=torch.float64)

    one, other = (drawn(*each) for each in zip(counts, deviations, strict=True))
    held = [
        abs(mean) <= difference_error95(std, counts[0], other_std, counts[1])
        for mean, std, other_std in zip(
            (one.mean(1) - other.mean(1)).tolist(), one.std(1).tolist(), other.std(1).tolist(), strict=True
        )
    ]
    assert sum(held) / len(held) == pytest.approx(share, abs=0.03)


def test_two_means_without_spread_are_apart_however_little() -> None:
    assert difference_error95(0.0, 3, 0.0, 3) == 0
