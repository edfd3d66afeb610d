"""Modules trained as one stack: the batched path of a GPU against the plain one of a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from untrigger.generators import TriggerGenerator
from untrigger.settings import GeneratorSettings
from untrigger.stacking import StackedModules

SETTINGS = GeneratorSettings(hidden=16, noise_dimension=8)
CPU = torch.device("cpu")


def generators() -> list[nn.Module]:
    torch.manual_seed(0)
    return [TriggerGenerator(SETTINGS, (3, 3)) for _ in range(3)]


@pytest.fixture
def noise(random: torch.Generator) -> Tensor:
    return torch.randn(3, 20, 8, generator=random)


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
