"""Several modules of the same shape trained as one: their weights stacked, one optimiser for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


class StackedModules:
    """Modules of one shape, in training mode, with parameters (modules, ...): leaves that an optimiser can step.

    On a GPU all run as one batched module (`torch.vmap`), so that kernels are started once; on a CPU one after the
    other, where a batched product is slower than its parts, unless the modules are `fine_grained`: of so many small
    steps that starting them costs most. Both give the same up to rounding. They compute in `precision`; parameters and
    outputs are fp32.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        device: torch.device,
        precision: torch.dtype = torch.float32,
        *,
        fine_grained: bool = False,
    ) -> None:
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)
        self._template = modules[0].to(device).train()
        parameters, buffers = stack_module_state([module.to(device) for module in modules])
        self._parameters = list(parameters.values())
        self._state: dict[str, Tensor] = {**parameters, **buffers}
        together = device.type == "cuda" or (fine_grained and len(modules) > 1)
        self._call: Callable[..., tuple[Tensor, ...]] = self._batched if together else self._one_by_one

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Each module on its part of the inputs, (modules, n, ...); its outputs, stacked."""
        with self._autocast:
            outputs = self._call(*inputs)
        return tuple(output.float() for output in outputs)

    def parameters(self) -> list[Tensor]:
        """The stacked parameters."""
        return self._parameters

    def set_gradients(self, loss: Tensor, retain_graph: bool = False) -> None:
        """Set the gradients of these parameters, and of no others, to those of `loss`, a scalar."""
        gradients = torch.autograd.grad(loss, self.parameters(), retain_graph=retain_graph)
        for parameter, gradient in zip(self.parameters(), gradients, strict=True):
            # The batched path gives transposed views; fused optimisers want the layout of the parameter.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)

    def states(self) -> Iterator[dict[str, Tensor]]:
        """The state dict of each module."""
        for state in self._parts():
            yield {name: tensor.detach().clone() for name, tensor in state.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The stacked parameters and buffers themselves, by name."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set them to those of another stack of the same shape."""
        with torch.no_grad():
            for name, tensor in self._state.items():
                tensor.copy_(state[name])

    def _batched(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.vmap(self._call_template)(self._state, *inputs)

    def _one_by_one(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = [self._call_template(*part) for part in zip(self._parts(), *inputs, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))

    def _parts(self) -> Iterator[dict[str, Tensor]]:
        """The state of each module as views, so that a module that changes a buffer changes the stack."""
        unbound = (tensor.unbind(0) for tensor in self._state.values())
        for tensors in zip(*unbound, strict=True):
            yield dict(zip(self._state, tensors, strict=True))

    def _call_template(self, state: dict[str, Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
        output = functional_call(self._template, state, inputs)
        return (output,) if isinstance(output, Tensor) else output
