"""From what a checkpoint holds to the tensors of the network alone, by its own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "netC", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
DEPTH = 3
"""How many wrappers may lie around the tensors."""

COUNTERS = "num_batches_tracked"
"""What batch norm counts and no answer depends on; it may lack."""


def state_of(content: Any) -> dict[str, Tensor] | None:
    """The tensors by name, without wrappers, prefixes and counters; None where there are none."""
    for _ in range(DEPTH + 1):
        if not isinstance(content, Mapping):
            return None
        if content and all(isinstance(name, str) and type(value) in _TENSORS for name, value in content.items()):
            return _without_prefixes({name: value for name, value in content.items() if not name.endswith(COUNTERS)})
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
    return None


_TENSORS = (Tensor, torch.nn.Parameter)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): value for name, value in state.items()})
    return state
