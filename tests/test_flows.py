"""Spline flows on the unit box: exact densities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from untrigger.errors import UserError
from untrigger.flows import FlowGenerator, bend, load_flow, save_flow, unbend
from untrigger.settings.methods import FlowSettings

SETTINGS = FlowSettings(layers=4, hidden=16)


def flow(seed: int = 0, bent: float = 0.0) -> FlowGenerator:
    """A new flow; its splines bent at random by as much as `bent`."""
    rng = torch.Generator().manual_seed(seed)
    made = FlowGenerator(SETTINGS, (2, 2), rng)
    for name, parameter in made.named_parameters():
        if ".out." in name:
            torch.nn.init.normal_(parameter, std=bent, generator=rng)
    return made


def test_a_new_flow_is_the_uniform_distribution(rng: torch.Generator) -> None:
    triggers, log_density = flow().sample_with_density(500, rng)
    assert triggers.shape == (500, 3, 2, 2) and log_density.abs().max() < 1e-4
    assert flow().entropy(500, rng) == pytest.approx(0, abs=1e-4)
    uniform = torch.rand(500, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(flow().parts[0](uniform)[0], uniform, atol=1e-5)


def test_the_density_of_a_sample_is_the_same_forwards_and_backwards(rng: torch.Generator) -> None:
    triggers, log_density = flow(bent=0.3).sample_with_density(200, rng)
    assert log_density.std() > 0.5
    assert torch.allclose(flow(bent=0.3).log_density(triggers), log_density, atol=1e-3)


def test_the_density_is_that_of_the_change_of_volume(rng: torch.Generator) -> None:
    made = flow(bent=0.3).double().parts[0]
    uniform = torch.rand(3, 12, generator=rng, dtype=torch.float64)
    _, log_density = made(uniform)
    for one, expected in zip(uniform, log_density, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda u: made(u[None])[0][0], one)
        assert -torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(expected.item(), abs=1e-9)


def test_the_density_adds_up_to_one(rng: torch.Generator) -> None:
    uniform = torch.rand(20_000, 12, generator=rng)
    assert flow(bent=0.1).log_density(uniform).double().exp().mean().item() == pytest.approx(1, abs=0.05)


def test_bending_is_monotone_within_the_unit_interval_and_can_be_undone(rng: torch.Generator) -> None:
    shape = torch.randn(1, 1, 25, generator=rng, dtype=torch.float64).expand(201, 1, 25)
    points = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    bent, gain = bend(points, shape)
    assert bent[0].item() == 0 and bent[-1].item() == pytest.approx(1)
    assert bool((bent.diff(dim=0) > 0).all())
    assert torch.allclose(unbend(bent, shape)[0], points)
    assert torch.allclose(unbend(bent, shape)[1], gain)


def test_samples_depend_on_the_seed_alone() -> None:
    def sample(weights: int, seed: int) -> torch.Tensor:
        return flow(weights, bent=0.3).sample(5, torch.Generator().manual_seed(seed))

    assert torch.equal(sample(0, 1), sample(0, 1))
    assert not torch.equal(sample(0, 1), sample(0, 2))
    assert not torch.equal(sample(0, 1), sample(1, 1))


def test_a_saved_flow_comes_back(tmp_path: Path, rng: torch.Generator) -> None:
    made = flow(bent=0.3)
    save_flow(made, 0.8, tmp_path)
    back, beta = load_flow(tmp_path)
    assert beta == 0.8
    triggers = made.sample(5, rng)
    assert torch.equal(back.log_density(triggers), made.log_density(triggers))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_flow(flow(), 0.8, tmp_path)
    text = (tmp_path / "generator.json").read_text()
    (tmp_path / "generator.json").write_text(text.replace('"hidden": 16', '"hidden": 32'))
    with pytest.raises(UserError, match="does not hold such a flow"):
        load_flow(tmp_path)
