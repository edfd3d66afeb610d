"""The parts of a set of triggers: found, and each filled by a flow of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.red_patches import TWO_PARTS_LOG_VOLUME, red_or_blue_judge, red_patch_judge
from untrigger.datasets.images import ImageData
from untrigger.fidelity import measure_fidelity
from untrigger.flow_training import train_flows
from untrigger.flows import FlowGenerator
from untrigger.settings.methods import FlowSettings
from untrigger.trigger_parts import find_parts
from untrigger.truth import Truth

SHORT = FlowSettings(
    layers=4, hidden=16, bins=4, samples=64, triggers=32, images_per_trigger=2, learning_rate=5e-3, steps=400
)


def contrast(triggers: Tensor) -> Tensor:
    """By how much the mean red of each trigger exceeds its mean blue, float (n,)."""
    colours = triggers.view(len(triggers), 3, -1).mean(2)
    return colours[:, 0] - colours[:, 2]


def trained(parts: Tensor | None) -> FlowGenerator:
    (flow,) = train_flows(red_or_blue_judge(), [0.5], SHORT, rngs=[torch.Generator().manual_seed(0)], parts=parts)
    return flow


def true_samples() -> Tensor:
    """Uniform on {F >= 0.5}: those of many uniform triggers that lie in it."""
    uniform = torch.rand(60_000, 27, generator=torch.Generator().manual_seed(5))
    return uniform[contrast(uniform).abs() >= 0.3]


def test_triggers_with_none_on_the_way_between_them_are_two_parts(rng: torch.Generator) -> None:
    parts = find_parts(red_or_blue_judge(), rng=rng)
    assert sorted(contrast(parts).sign().tolist()) == [-1, 1]


def test_triggers_that_hang_together_are_one_part(tiny_images: ImageData, rng: torch.Generator) -> None:
    assert len(find_parts(red_patch_judge(tiny_images), rng=rng)) == 1


def test_both_parts_are_filled_as_they_are_large(rng: torch.Generator) -> None:
    judge, samples = red_or_blue_judge(), true_samples()
    flow = trained(find_parts(judge, rng=rng))
    red = (contrast(flow.sample(2000, rng)) > 0).double().mean().item()
    assert 0.25 < red < 0.75
    truth = Truth(0.5, (TWO_PARTS_LOG_VOLUME,) * 2, samples)
    found = measure_fidelity(flow, 0.5, judge, truth=truth, samples=2000, rng=rng)
    assert found.valid > 0.85
    assert found.gap is not None and abs(found.gap) < 1.5
    assert found.forward_gap is not None and found.forward_gap < 2.5
    assert found.coverage is not None and found.truth_coverage is not None
    assert found.coverage > found.truth_coverage - 0.1


def test_the_density_of_several_parts_adds_up_to_one(rng: torch.Generator) -> None:
    flow = FlowGenerator(FlowSettings(layers=4, hidden=8), (2, 2), rng, parts=3)
    for name, parameter in flow.named_parameters():
        if ".out." in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=rng)
    flow.log_shares = torch.tensor([0.5, 0.3, 0.2]).log()
    uniform = torch.rand(20_000, 12, generator=rng)
    assert abs(flow.log_density(uniform).double().exp().mean().item() - 1) < 0.05
