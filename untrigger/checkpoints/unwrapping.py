"""From what a checkpoint holds to the tensors of the network alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """The tensors by the names that they have, without wrappers around them; None where there are none."""
    for _ in range(DEPTH + 1):
        if not isinstance(content, Mapping):
            return None
        if content and all(isinstance(name, str) and type(value) in _TENSORS for name, value in content.items()):
            return dict(content)
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
    return None


_TENSORS = (Tensor, torch.nn.Parameter)


def without_prefixes(names: Iterable[str]) -> dict[str, str]:
    """What is left of each name when the prefixes fall away that all have, and the name; without those of counters."""
    left = {name: name for name in names if not name.endswith(COUNTERS)}
    while prefix := next((prefix for prefix in PREFIXES if left and all(n.startswith(prefix) for n in left)), ""):
        left = {name.removeprefix(prefix): whole for name, whole in left.items()}
    return left
