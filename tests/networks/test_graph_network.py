"""Graphs that cost more than any network does are refused before they cost anything."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from untrigger.errors import UserError
from untrigger.networks.graph_network import IMAGES, GraphNetwork, NetworkGraph


def network(*layers: dict[str, Any]) -> GraphNetwork:
    """Layers one behind the other."""
    names = [IMAGES, *(f"layer_{number}" for number in range(len(layers)))]
    told = [
        {"name": name, "inputs": [before], **layer}
        for (before, name), layer in zip(itertools.pairwise(names), layers, strict=True)
    ]
    return GraphNetwork(NetworkGraph.model_validate({"layers": told}))


def pool(size: int) -> dict[str, Any]:
    return {"kind": "max_pool", "options": {"kernel_size": (size, size), "stride": (1, 1)}}


WIDE = {"kind": "convolution", "options": {"in_channels": 3, "out_channels": 4096, "kernel_size": (1, 1)}}


def test_what_a_small_network_does_is_done() -> None:
    assert network(pool(3), pool(3))(torch.ones(2, 3, 8, 8)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("layers", [[pool(33)] * 60, [WIDE]], ids=["windows", "channels"])
def test_windows_and_layers_larger_than_those_of_any_network_are_refused_at_once(layers: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="larger than those of any network for images of 2048x2048 pixels"):
        network(*layers)(torch.ones(1, 1, 1, 1).expand(500, 3, 2048, 2048))


def test_layers_that_do_not_fit_each_other_are_named() -> None:
    with pytest.raises(UserError, match="layer_0 does not take what comes to it"):
        network(pool(33))(torch.ones(1, 3, 8, 8))
