"""Snapshots of trainings: all that one needs to go on as if it had never been interrupted.

A training hands over its whole state: tensors, numbers and random streams. The file is safetensors, with the rest as
JSON in its header, behind the SHA-256 of all that. torch is imported only where tensors are, as in `artifacts`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

State = Any
"""Tensors, numbers, texts and None, in dicts, lists and tuples (which come back as lists)."""

DIGEST_BYTES = hashlib.sha256().digest_size


class Place(Protocol):
    """Where snapshots lie, by the name of their training."""

    def read(self, name: str) -> bytes | None:
        """None when there is none that is whole."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all, in place of an earlier one."""
        ...


class Clock:
    """When the trainings of one stage are due to be kept: every `seconds`, and at the end where that took a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def is_due(self, *, last: bool) -> bool:
        """At the end of a training a tenth of the time will do: several short ones would else be lost together."""
        passed = time.monotonic() - self._last
        return passed >= (self._seconds / 10 if last else self._seconds)

    def reset(self) -> None:
        """What there is was kept just now."""
        self._last = time.monotonic()


class Snapshot:
    """The snapshot of one training, with `notes`: what was reported of it so far, for `recall` to report it again."""

    def __init__(
        self,
        place: Place | None = None,
        name: str = "",
        clock: Clock | None = None,
        notes: Callable[[], State] = lambda: None,
        recall: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._place, self._name, self._clock = place, name, clock or Clock(0)
        self._notes, self._recall = notes, recall

    def restored(self) -> State | None:
        """The state that the training goes on from, when it was kept and what was reported is reported again."""
        content = self._place.read(self._name) if self._place else None
        if content is None:
            return None
        kept = unpacked(content)
        self._recall(kept["notes"])
        return kept["state"]

    def offer(self, state: Callable[[], State], *, last: bool) -> None:
        """Keep what `state` gives, when that is due; called between two epochs, `last` after the last one."""
        if self._place is None or not self._clock.is_due(last=last):
            return
        self._place.write(self._name, packed({"state": state(), "notes": self._notes()}))
        self._clock.reset()


UNKEPT = Snapshot()
"""Of a training that keeps nothing."""


def packed(state: State) -> bytes:
    """The content of a file with `state`."""
    from safetensors.torch import save
    from torch import Tensor

    tensors: dict[str, Tensor] = {}

    def plain(value: State) -> Any:
        if isinstance(value, Tensor):
            tensors[name := str(len(tensors))] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, dict):
            return {"dict": [[key, plain(inner)] for key, inner in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [plain(inner) for inner in value]}
        return {"value": value}

    told = json.dumps(plain(state))
    content = save(tensors, metadata={"state": told})
    return hashlib.sha256(content).digest() + content


def is_whole(content: bytes) -> bool:
    """Whether it is what `packed` gave, bit for bit."""
    return hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]


def unpacked(content: bytes) -> State:
    """What `packed` was given, of content that is whole; the tensors are on the CPU."""
    from safetensors.torch import load

    content = content[DIGEST_BYTES:]
    tensors = load(content)
    length = int.from_bytes(content[:8], "little")
    told = json.loads(content[8 : 8 + length])["__metadata__"]["state"]

    def found(value: Any) -> State:
        (kind, inside) = next(iter(value.items()))
        if kind == "tensor":
            return tensors[inside]
        if kind == "dict":
            return {key: found(inner) for key, inner in inside}
        return [found(inner) for inner in inside] if kind == "list" else inside

    return found(json.loads(told))


def rng_states(rngs: Sequence[torch.Generator]) -> list[Tensor]:
    """Where random streams are."""
    return [rng.get_state() for rng in rngs]


def set_rng_states(rngs: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    """Bring random streams to where `rng_states` found them."""
    for rng, state in zip(rngs, states, strict=True):
        rng.set_state(state)


def load_optimiser(optimiser: torch.optim.Optimizer, state: State) -> None:
    """Load the state dict of an optimiser; what it keeps per weight gets the weight's own layout in memory."""
    import torch

    optimiser.load_state_dict(state)
    for weight, kept in optimiser.state.items():
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                # Fused optimisers go through memory side by side.
                kept[name] = torch.empty_like(weight).copy_(value)
