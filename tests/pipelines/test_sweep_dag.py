"""The compiled sweep: what all triggers share, what each has for itself, and how their reports come together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.configs import tiny_sweep
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return next(yaml.safe_load_all(COMPILED["paper"].read_text()))


@pytest.fixture(scope="module")
def tracked(spec: dict[str, Any]) -> dict[str, Any]:
    """The tasks between opening and closing the tracking run."""
    return spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]


def loop(tracked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    ((name, task),) = ((name, task) for name, task in tracked.items() if "parameterIterator" in task)
    return name, task


def test_data_and_clean_classifier_are_made_once_and_shared(spec: dict[str, Any], tracked: dict[str, Any]) -> None:
    name, task = loop(tracked)
    assert tracked.keys() == {"open-run", "prepare-data", "clean-training", name, "aggregation"}
    assert set(task["dependentTasks"]) == {"prepare-data", "clean-training"}
    inside = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]
    assert inside.keys() == {"defend-one-trigger"}


def test_the_fan_out_runs_over_the_triggers_which_label_their_stages(
    spec: dict[str, Any], tracked: dict[str, Any]
) -> None:
    _, task = loop(tracked)
    assert task["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--triggers"}
    inside = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]["defend-one-trigger"]
    given = inside["inputs"]["parameters"]
    assert given["label"] == given["trigger"]


def test_the_reports_of_all_triggers_reach_one_aggregation(tracked: dict[str, Any]) -> None:
    name, _ = loop(tracked)
    assert tracked["aggregation"]["dependentTasks"] == [name]
    (given,) = tracked["aggregation"]["inputs"]["artifacts"].values()
    assert given["taskOutputArtifact"]["producerTask"] == name


def test_the_settings_of_one_trigger_do_not_change_with_the_list_of_triggers() -> None:
    few, many = (pipeline_arguments(tiny_sweep(triggers=names)) for names in (("binary:1",), ("binary:1", "colour:0")))
    assert {name for name in few if few[name] != many[name]} == {"config", "triggers"}
