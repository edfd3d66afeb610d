"""Modules trained as one stack: the batched path of a GPU against the plain one of a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from untrigger.generators import TriggerGenerator
from untrigger.mutual_information import StatisticsNetwork
from untrigger.networks.initialisation import initialise
from untrigger.networks.stacking import StackedModules
from untrigger.settings.methods import GeneratorSettings

SETTINGS = GeneratorSettings(hidden=16, noise_dimension=8)
CPU = torch.device("cpu")


def generators() -> list[nn.Module]:
    rng = torch.Generator().manual_seed(0)
    modules = [TriggerGenerator(SETTINGS, (3, 3)) for _ in range(3)]
    for module in modules:
        initialise(module, rng)
    return list(modules)


@pytest.fixture
def noise(rng: torch.Generator) -> Tensor:
    return torch.randn(3, 20, 8, generator=rng)


def outputs_gradients_and_states(noise: Tensor, batched: bool) -> list[Tensor]:
    stack = StackedModules(generators(), CPU)
    (triggers,) = stack._batched(noise) if batched else stack(noise)
    stack.set_gradients((triggers * torch.arange(27).view(3, 3, 3)).sum())
    gradients = [parameter.grad for parameter in stack.parameters() if parameter.grad is not None]
    states = [tensor.float() for state in stack.states() for tensor in state.values()]
    return [triggers.detach(), *gradients, *states]


def test_the_batched_path_gives_what_the_plain_one_does(noise: Tensor) -> None:
    pairs = zip(outputs_gradients_and_states(noise, True), outputs_gradients_and_states(noise, False), strict=True)
    assert all(torch.allclose(batched, plain, rtol=1e-4, atol=1e-4) for batched, plain in pairs)


@pytest.mark.parametrize("batched", [True, False])
def test_a_stack_in_bf16_gives_fp32_outputs_and_gradients_close_to_those_in_fp32(noise: Tensor, batched: bool) -> None:
    found = []
    for precision in (torch.float32, torch.bfloat16):
        stack = StackedModules(generators(), CPU, precision)
        (triggers,) = stack._batched(noise) if batched else stack(noise)
        stack.set_gradients(triggers.square().sum())
        gradients = [parameter.grad for parameter in stack.parameters() if parameter.grad is not None]
        assert {tensor.dtype for tensor in (triggers, *gradients, *stack.parameters())} == {torch.float32}
        found.append([triggers.detach(), *gradients])
    largest = max(tensor.norm() for tensor in found[0])
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).norm() < 0.15 * exact.norm() + 5e-4 * largest


def test_an_optimiser_steps_both_paths_alike(noise: Tensor) -> None:
    stepped = []
    for batched in (True, False):
        rng = torch.Generator().manual_seed(0)
        networks = [StatisticsNetwork(8, 8, 16, rng) for _ in range(3)]
        stack = StackedModules(networks, CPU)
        optimiser = torch.optim.Adam(stack.parameters(), lr=0.1, fused=True)
        joint, marginal = (stack._batched if batched else stack)(noise, noise.flip(1))
        stack.set_gradients((joint - marginal.exp()).sum())
        assert all(p.grad is not None and p.grad.stride() == p.stride() for p in stack.parameters())
        optimiser.step()
        stepped.append([parameter.detach().clone() for parameter in stack.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*stepped, strict=True))


def test_each_module_sees_its_own_part_and_keeps_its_own_weights(noise: Tensor) -> None:
    modules = generators()
    expected = [module.train()(part) for module, part in zip(modules, noise, strict=True)]
    (triggers,) = StackedModules(generators(), CPU)(noise)
    assert torch.allclose(triggers, torch.stack(expected), atol=1e-6)


def test_a_loss_moves_only_the_stack_that_is_asked_for(noise: Tensor) -> None:
    first, second = StackedModules(generators(), CPU), StackedModules(generators(), CPU)
    loss = first(noise)[0].sum() + second(noise)[0].sum()
    first.set_gradients(loss)
    assert all(parameter.grad is not None for parameter in first.parameters())
    assert all(parameter.grad is None for parameter in second.parameters())
