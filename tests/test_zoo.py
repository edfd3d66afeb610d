"""The zoo: attacks are drawn from their ranges, and what it prints counts what scans found."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from benchmarks.zoo import auroc, summary
from benchmarks.zoo_networks import Kind, drawn_attack
from tests.support.training import seeded
from untrigger.measurements import MASK, Arm, Measured


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_attack_changes_nothing_but_its_place(seed: int) -> None:
    attack = drawn_attack("backdoored", 10, 16, seeded(seed))
    images = torch.rand(20, 3, 16, 16, generator=seeded(1))
    changed = (attack.stamped(images, seeded(2)) != images).any(1)
    places = changed.flatten(1).sum(1)
    assert 0 < places.max() <= attack.told["size"] ** 2 <= 64
    if attack.told["place"] == "fixed":
        assert changed.any(0).sum() <= attack.told["size"] ** 2


def test_a_one_to_one_attack_relabels_its_source_only() -> None:
    attack = drawn_attack("one_to_one", 10, 16, seeded())
    labels = torch.arange(200) % 10
    images = torch.rand(200, 3, 16, 16, generator=seeded(1))
    stamped, answers = attack.planting()(images, labels, seeded(2))
    relabelled = answers != labels
    assert labels[relabelled].unique().tolist() == [attack.source]
    assert (answers[relabelled] == attack.target).all()
    unrelabelled_but_stamped = (stamped != images).flatten(1).any(1) & ~relabelled
    assert unrelabelled_but_stamped.any()


def test_a_blended_attack_covers_the_whole_image_a_little() -> None:
    attack = drawn_attack("blended", 10, 16, seeded())
    images = torch.rand(2, 3, 16, 16, generator=seeded(1))
    assert attack.opacity.shape == (16, 16)
    assert (attack.stamped(images, seeded()) - images).abs().max() <= 0.2


def line(kind: Kind, number: int, gain: float, target: int = 0) -> dict[str, Any]:
    """A network with one class that a patch opens so far."""
    others = {"success": 0.0, "floor": 0.0}
    arms = [Arm(search="3", target_class=target, success=gain, floor=0.0)]
    arms += [Arm.of({"search": "3", "target_class": each, **others}) for each in range(10) if each != target]
    arms += [Arm(search=MASK, target_class=each, success=1.0, floor=0.0, norm=50.0, index=0.0) for each in range(10)]
    told = {"target": 0, "attack_success": 1.0} if kind == "backdoored" else {}
    measured = json.loads(Measured(arms=tuple(arms), seconds=1.0).model_dump_json())
    return {"kind": kind, "number": number, "told": told, "measured": measured}


def test_the_summary_counts_what_is_found_missed_and_falsely_alarmed() -> None:
    lines = [line("reference", number, number / 1000) for number in range(19)]
    lines += [line("clean", 0, 0.001), line("clean", 1, 0.5)]
    lines += [line("backdoored", 0, 0.9), line("backdoored", 1, 0.9, target=4), line("backdoored", 2, 0.0)]
    found = summary(lines, {"reference": 19, "clean": 2, "backdoored": 3})
    assert (found["false_alarms"], found["tpr_at_5"], found["tpr_at_1"]) == (1, 2 / 3, None)
    assert found["target_right"] == 0.5
    assert [attack["target"] for attack in found["missed"]] == [0]
    assert found["auroc"] == pytest.approx(4 / 6)


def test_a_backdoor_that_did_not_take_is_no_backdoored_network() -> None:
    lines = [line("reference", 0, 0.0), line("clean", 0, 0.0), line("backdoored", 0, 0.9), line("backdoored", 1, 0.0)]
    lines[-1]["told"]["attack_success"] = 0.5
    assert summary(lines, {"reference": 1, "clean": 1, "backdoored": 2})["backdoored"] == 1


def test_the_interval_is_that_of_hanley_and_mcneil() -> None:
    found = auroc([0, 1, 2, 3], [2, 3, 4, 5])
    assert found["auroc"] == pytest.approx(14 / 16)
    area, pairs = 14 / 16, 16
    error = (area * (1 - area) + 3 * (area / (2 - area) - area**2) + 3 * (2 * area**2 / (1 + area) - area**2)) / pairs
    assert found["low"] == pytest.approx(area - 1.96 * error**0.5)
    assert found["high"] == 1.0
