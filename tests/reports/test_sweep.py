"""A sweep over triggers: their names, and their results brought together."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.configs import tiny_sweep
from tests.support.results import BEFORE, FOUND, SWEEP, left
from untrigger.reports.sweep import folder_name, panel_triggers, sweep_results


def test_triggers_are_sorted_by_what_the_baseline_leaves() -> None:
    rows = sweep_results(SWEEP, FOUND).triggers
    assert [row.name for row in rows] == ["colour:1", "binary:9", "binary:3"]


def test_each_group_has_mean_spread_and_worst_over_its_triggers_beside_the_published() -> None:
    lines = {(line.group, line.method): line for line in sweep_results(SWEEP, FOUND).summary}
    single = lines["black-and-white", "single_trigger"]
    assert single.mean == pytest.approx(0.2) and single.std == pytest.approx(0.1 * 2**0.5)
    assert (single.worst, single.worst_trigger) == (0.3, "binary:3")
    assert single.worst_of_seeds == 0.31, "worse than any mean over the seeds"
    assert (single.published_mean, single.published_worst) == (0.105, 0.514)
    assert (single.triggers, single.seeds) == (2, 2)
    colour = lines["colour", "ensemble"]
    assert (colour.mean, colour.std, colour.published_mean) == (0.01, 0.0, 0.0191)


def test_the_published_baseline_stands_beside_the_control_that_repeats_it_where_there_is_one() -> None:
    methods = ("single_trigger", "single_trigger_elsewhere", "ensemble")
    found = left("binary:3", BEFORE, {method: [BEFORE] for method in methods})
    lines = {line.method: line.published_mean for line in sweep_results(SWEEP, [found]).summary}
    assert (lines["single_trigger"], lines["single_trigger_elsewhere"]) == (None, 0.105)


@pytest.mark.parametrize(
    "other", [{"dataset": "cifar100:data"}, {"dataset": "cifar10", "attack": {"name": "patch", "place": "fixed"}}]
)
def test_published_figures_stand_beside_nothing_but_their_dataset_and_attack(other: dict[str, Any]) -> None:
    lines = sweep_results(tiny_sweep(**other, triggers=SWEEP.triggers), FOUND).summary
    assert {line.published_mean for line in lines} == {None}


def test_methods_are_set_against_the_ensemble_trigger_by_trigger() -> None:
    lines = {(line.group, line.method): line for line in sweep_results(SWEEP, FOUND).summary}
    single = lines["black-and-white", "single_trigger"]
    # 0.28 and 0.06 more: mean 0.17, and 0.11 is the standard deviation, 0.1556, over the root of two.
    assert single.over_ensemble == pytest.approx(0.17) and single.over_ensemble_error == pytest.approx(0.11)
    assert single.over_ensemble_error95 == pytest.approx(12.706 * 0.11, abs=1e-4), "two triggers tell little"
    assert lines["colour", "single_trigger"].over_ensemble_error95 is None, "and one nothing"


def test_the_worst_attack_before_the_defence_is_the_one_that_succeeds_least() -> None:
    lines = {(line.group, line.method): line for line in sweep_results(SWEEP, FOUND).summary}
    before = lines["black-and-white", "before"]
    assert (before.worst, before.worst_trigger) == (0.7, "binary:3") and before.worst_of_seeds is None


def test_panels_show_where_the_baseline_does_best_middling_and_worst_unless_chosen() -> None:
    results = sweep_results(SWEEP, FOUND)
    assert panel_triggers(SWEEP, results) == ["colour:1", "binary:9", "binary:3"]
    chosen = tiny_sweep(triggers=SWEEP.triggers, panels=("binary:3",))
    assert panel_triggers(chosen, results) == ["binary:3"]


def test_a_trigger_gives_its_report_a_folder_of_a_plain_name() -> None:
    assert folder_name("binary:3") == "binary-3"
    assert "/" not in folder_name("../patches/a b.png")
    alike = ("patches/a_1.png", "patches/a-1.png", "patches-a-1.png", "ä.png", "ö.png", "binary:3", "binary-3")
    assert len({folder_name(name) for name in alike}) == len(alike)
