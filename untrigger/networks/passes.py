"""How many images go through a network: what a method costs, whatever machine it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Passes:
    """`count` images went forward, each as often as it did; passes back are not counted."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False


@contextmanager
def counted_passes(network: nn.Module) -> Iterator[Passes]:
    """Count the images that go through `network`, and through the copies that are made of it in this block."""
    passes = Passes()

    def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Copies take this hook with them.
        passes.count += 0 if passes.over else len(inputs[0])

    handle = network.register_forward_pre_hook(count)
    try:
        yield passes
    finally:
        passes.over = True
        handle.remove()
