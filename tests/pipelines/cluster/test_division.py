"""Sweeps divided into workflows that Argo can keep."""

from __future__ import annotations

import pytest
import yaml

from tests.support.configs import tiny_config
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments
from untrigger.pipelines.cluster.division import MOST_NODES, divided, part_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.profiles import CLUSTER_PACKING, config_for
from untrigger.settings.runs import SweepConfig
from untrigger.settings.tracked import TrackedAs

SPEC = next(yaml.safe_load_all(COMPILED["paper"].read_text()))


def config(profile: str, **changes: object) -> SweepConfig:
    return config_for(profile, {**CLUSTER_PACKING[profile], **changes}, SweepConfig)


@pytest.mark.parametrize(("profile", "parts"), [("tiny", 6), ("paper", 9)])
def test_the_papers_sweep_is_divided_into_as_few_workflows_as_argo_keeps(profile: str, parts: int) -> None:
    whole = config(profile, triggers=("binary", "colour:0-9"))
    found = [part for part in divided(whole, SPEC) if isinstance(part, SweepConfig)]
    assert len(found) == parts
    assert tuple(name for part in found for name in part.triggers) == whole.triggers
    sizes = [size_of(SPEC, pipeline_arguments(part)).nodes for part in found]
    assert max(sizes) <= MOST_NODES
    assert (parts - 1) * max(len(part.triggers) for part in found) < 61, "one workflow fewer would not do"


def test_a_run_of_one_trigger_and_a_short_sweep_stay_whole() -> None:
    assert divided(tiny_config(), SPEC) == [tiny_config()]
    short = config("tiny", triggers=("binary:0-3",), panels=("binary:2",))
    assert divided(short, SPEC) == [short]


def test_parts_are_told_what_the_whole_is_told_but_for_their_triggers() -> None:
    whole = config("tiny", triggers=("binary:0-12",), panels=("binary:1", "binary:12"))
    parts = divided(whole, SPEC)
    first, second = (part_arguments(whole, part, TrackedAs()) for part in parts)
    assert {name for name in first if first[name] != second[name]} == {"config", "triggers"}
    assert [each["config"]["panels"] for each in (first, second)] == [["binary:1"], ["binary:12"]]
