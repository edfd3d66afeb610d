"""The zoo: attacks are drawn from their ranges, and what it prints counts what scans found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.zoo import auroc, measure_zoo, summary
from benchmarks.zoo_networks import Kind, drawn_attack
from tests.support.training import seeded
from untrigger.errors import UserError
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
    assert found["roc"][0] == {"false_alarms": 0, "found": 0} and found["roc"][-1] == {"false_alarms": 1, "found": 1}


def test_a_backdoor_that_did_not_take_is_no_backdoored_network() -> None:
    lines = [line("reference", 0, 0.0), line("clean", 0, 0.0), line("backdoored", 0, 0.9), line("backdoored", 1, 0.0)]
    lines[-1]["told"]["attack_success"] = 0.5
    assert summary(lines, {"reference": 1, "clean": 1, "backdoored": 2})["backdoored"] == 1


def test_the_interval_holds_the_areas_that_the_one_found_is_a_likely_draw_of() -> None:
    found = auroc([0, 1, 2, 3], [2, 3, 4, 5])
    assert found["auroc"] == pytest.approx(14 / 16)
    for true in (found["low"], found["high"]):
        assert true is not None
        error = (true * (1 - true) * (1 + 3 * ((1 - true) / (2 - true) + true / (1 + true))) / 16) ** 0.5
        assert abs(14 / 16 - true) == pytest.approx(1.96 * error)


def test_networks_that_are_never_confused_leave_an_interval_that_more_networks_narrow() -> None:
    few, many = (auroc([0.0] * count, [1.0] * count) for count in (5, 50))
    assert few["high"] == many["high"] == 1.0
    assert few["low"] is not None and many["low"] is not None and 0.5 < few["low"] < many["low"] < 1
    none = auroc([1.0] * 5, [0.0] * 5)
    assert none["low"] == 0.0 and none["high"] == pytest.approx(1 - few["low"])


def test_a_folder_with_networks_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    kept = {**line("reference", 0, 0.0), "config": {"seed": 7}, "scan": {}}
    (tmp_path / "networks.jsonl").write_text(json.dumps(kept) + "\n")
    with pytest.raises(UserError, match=r"was measured on networks of other settings: choose another folder"):
        measure_zoo("digits", None, {}, tmp_path, "quick", None)
    assert [path.name for path in tmp_path.iterdir()] == ["networks.jsonl"]
