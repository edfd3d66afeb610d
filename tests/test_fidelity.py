"""Entropy, coverage and precision, on distributions where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.support.red_patches import LOG_VOLUME, red_patch_judge
from untrigger.datasets.images import ImageData
from untrigger.fidelity import coverage, measure_fidelity, nearest_neighbour_entropy, precision
from untrigger.flows import FlowGenerator
from untrigger.settings.methods import FlowSettings
from untrigger.truth import Truth


class Reddish:
    """Draws triggers, most of them red enough; not a flow."""

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        triggers = torch.rand(count, 3, 3, 3, generator=rng)
        triggers[:, 0] = 0.5 + triggers[:, 0] / 2
        return triggers


def true_samples(count: int, seed: int) -> Tensor:
    """Triggers uniform on {F >= 0.5}, by rejection."""
    rng, found = torch.Generator().manual_seed(seed), torch.empty(0, 27)
    while len(found) < count:
        drawn = torch.rand(20_000, 27, generator=rng)
        found = torch.cat([found, drawn[drawn[:, :9].mean(1) >= 0.7]])
    return found[:count]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(0.5, (LOG_VOLUME,) * 3, true_samples(400, 1))


def test_the_uniform_flow_has_the_whole_entropy_in_the_part_that_is_valid(
    tiny_images: ImageData, truth: Truth, rng: torch.Generator
) -> None:
    flow = FlowGenerator(FlowSettings(layers=2, hidden=8), (3, 3), rng)
    found = measure_fidelity(flow, 0.5, red_patch_judge(tiny_images), truth=truth, samples=4000, rng=rng)
    assert found.estimator == "density"
    assert found.valid == pytest.approx(math.exp(LOG_VOLUME), abs=0.01)
    assert found.entropy == pytest.approx(LOG_VOLUME, abs=0.5)
    assert found.gap == pytest.approx(0, abs=0.5)
    assert found.forward_gap == pytest.approx(-LOG_VOLUME, abs=0.01)


def test_other_generators_are_measured_by_their_neighbours(
    tiny_images: ImageData, truth: Truth, rng: torch.Generator
) -> None:
    found = measure_fidelity(Reddish(), 0.5, red_patch_judge(tiny_images), truth=truth, samples=500, rng=rng)
    assert found.estimator == "nearest neighbours" and found.forward_gap is None
    assert found.valid > 0.6 and found.mean_f > 0.5
    assert found.entropy is not None and found.gap == pytest.approx(LOG_VOLUME - found.entropy)


def test_without_the_truth_only_the_generator_is_told(tiny_images: ImageData, rng: torch.Generator) -> None:
    found = measure_fidelity(Reddish(), 0.5, red_patch_judge(tiny_images), samples=200, rng=rng)
    assert found.entropy is not None
    assert found.gap is found.coverage is found.truth_coverage is found.log_volume is None


def test_where_nothing_is_valid_there_is_no_entropy(tiny_images: ImageData, rng: torch.Generator) -> None:
    flow = FlowGenerator(FlowSettings(layers=2, hidden=8), (3, 3), rng)
    found = measure_fidelity(flow, 0.999, red_patch_judge(tiny_images), samples=100, rng=rng)
    assert found.valid == 0 and found.entropy is None


@pytest.mark.parametrize("side", [1.0, 0.5])
def test_the_neighbours_tell_the_entropy_of_a_box(side: float, rng: torch.Generator) -> None:
    points = side * torch.rand(4000, 3, generator=rng)
    assert nearest_neighbour_entropy(points) == pytest.approx(3 * math.log(side), abs=0.15)


def test_a_second_true_sample_covers_and_a_curve_does_not() -> None:
    true, second = true_samples(300, 1), true_samples(300, 2)
    curve = true[:1] + 0.01 * torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
    assert coverage(true, second) > 0.9 and precision(true, second) > 0.9
    assert coverage(true, curve) < 0.1 and precision(true, curve) > 0.9


def test_one_mode_of_two_covers_half() -> None:
    rng = torch.Generator().manual_seed(0)
    near, far = (0.1 * torch.rand(200, 5, generator=rng) + place for place in (0.0, 0.9))
    assert coverage(torch.cat([near, far]), 0.1 * torch.rand(400, 5, generator=rng)) == pytest.approx(0.5, abs=0.05)


def test_no_generated_samples_cover_nothing() -> None:
    true = torch.rand(20, 5, generator=torch.Generator().manual_seed(0))
    assert coverage(true, true[:0]) == precision(true, true[:0]) == 0
