"""Snapshots of trainings."""

from __future__ import annotations

import torch

from tests.support.interruptions import Kept
from untrigger.snapshots import Clock, Snapshot, is_whole, packed, unpacked


def test_what_is_packed_comes_back() -> None:
    half, byte = torch.rand(3, dtype=torch.bfloat16), torch.Generator().get_state()
    state = {"a": [half, {1: byte, "b": None}], "share": 0.1, "name": "x", "none": [], "size": torch.ones(())}
    found = unpacked(packed(state))
    assert torch.equal(found["a"][0], half) and torch.equal(found["a"][1][1], byte)
    assert found["a"][1]["b"] is None and (found["share"], found["name"], found["none"]) == (0.1, "x", [])
    assert found["size"].shape == ()


def test_tensors_that_share_memory_and_those_in_other_layouts_are_packed_whole() -> None:
    images = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    found = unpacked(packed([images, images[0], images[0]]))
    assert torch.equal(found[0], images) and torch.equal(found[2], images[0])


def test_a_snapshot_is_whole_only_as_it_was_written() -> None:
    content = packed({"weights": torch.rand(3), "epoch": 2})
    assert is_whole(content)
    flipped = (content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content)))
    cut = (content[:length] for length in range(len(content)))
    assert not any(map(is_whole, (*flipped, *cut, content + b"\0")))


def test_a_training_is_kept_when_that_is_due_with_what_was_reported_of_it() -> None:
    place, told = Kept(), list[int]()
    rare = Snapshot(place, "a", Clock(1000), lambda: told, told.extend)
    rare.offer(lambda: 1, last=False)
    rare.offer(lambda: 1, last=True)
    assert rare.restored() is None and not place.contents
    often = Snapshot(place, "a", Clock(0), lambda: [1, 2], told.extend)
    often.offer(lambda: {"epoch": 2}, last=False)
    assert often.restored() == {"epoch": 2} and told == [1, 2]
