"""The statistics network against what can be computed exactly."""

from __future__ import annotations

import math

import pytest
import torch

from untrigger.mutual_information import DebiasedObjective, donsker_varadhan, estimate_mutual_information


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_estimate_matches_the_closed_form_for_correlated_gaussians(correlation: float) -> None:
    dimensions = 2

    def pairs(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.randn(count, dimensions, generator=rng)
        noise = torch.randn(count, dimensions, generator=rng)
        return z, correlation * z + math.sqrt(1 - correlation**2) * noise

    exact = -dimensions / 2 * math.log(1 - correlation**2)
    found = estimate_mutual_information(
        pairs, steps=600, hidden=64, batch_size=256, learning_rate=2e-3, rng=torch.Generator().manual_seed(0)
    )
    assert found == pytest.approx(exact, abs=0.1)


def test_the_bound_is_zero_for_a_statistic_that_tells_nothing() -> None:
    constant = torch.full((50,), 3.7)
    assert donsker_varadhan(constant, constant).item() == pytest.approx(0.0, abs=1e-6)


def test_the_bound_by_hand() -> None:
    joint, marginal = torch.tensor([1.0, 3.0]), torch.tensor([0.0, math.log(3.0)])
    assert donsker_varadhan(joint, marginal).item() == pytest.approx(2.0 - math.log(2.0), abs=1e-6)


def test_the_debiased_gradient_divides_by_the_moving_average() -> None:
    objective = DebiasedObjective(rate=0.5)
    objective(torch.zeros(1), torch.zeros(4))
    marginal = torch.full((4,), math.log(3.0), requires_grad=True)
    objective(torch.zeros(1), marginal).backward()
    # The average of 1 (first batch) and 3 (second) at rate 0.5 is 2, so each of 4 samples gets -(3 / 2) / 4.
    assert marginal.grad is not None
    assert marginal.grad.tolist() == pytest.approx([-0.375] * 4)
