"""The compiled DAG `grid`: what depends on what, what each stage is told, how it is divided."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from untrigger.errors import UserError
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments
from untrigger.pipelines.cluster.division import MOST_NODES, divided, part_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.profiles import grid_config
from untrigger.settings.grids import GRID_METHODS, GridRunConfig
from untrigger.settings.tracked import TrackedAs

SPEC = next(yaml.safe_load_all(COMPILED["grid"].read_text()))
TASKS = SPEC["components"]["comp-exit-handler-1"]["dag"]["tasks"]
"""Between opening and closing the tracking run."""

INSIDE = SPEC["components"]["comp-close-one-backdoor"]["dag"]["tasks"]
"""Of each backdoor."""


def config(**changes: Any) -> GridRunConfig:
    return grid_config("demo", changes, GridRunConfig)


def looped(tasks: dict[str, Any]) -> tuple[str, str]:
    """The only loop among these tasks, and the parameter of the DAG that it runs over."""
    ((name, task),) = ((name, task) for name, task in tasks.items() if "parameterIterator" in task)
    return name, task["parameterIterator"]["items"]["inputParameter"].removeprefix("pipelinechannel--")


def read(task: dict[str, Any]) -> set[str]:
    """The artifacts of others that a task reads, by their names there."""
    given = task.get("inputs", {}).get("artifacts", {}).values()
    return {
        each["taskOutputArtifact"]["outputArtifactKey"]
        if "taskOutputArtifact" in each
        else each["componentInputArtifact"]
        for each in given
    }


def test_data_and_clean_classifier_are_shared_and_each_backdoor_is_planted_closed_and_gathered() -> None:
    backdoors, over = looped(TASKS)
    assert over == "backdoor_plan"
    assert TASKS.keys() == {"open-run", "prepare-data", "clean-training", backdoors, "grid-report"}
    assert set(TASKS[backdoors]["dependentTasks"]) == {"prepare-data", "clean-training"}
    assert set(TASKS["grid-report"]["dependentTasks"]) == {backdoors, "clean-training"}
    cells, over = looped(INSIDE)
    assert over == "method_plan"
    assert INSIDE.keys() == {"grid-planting", cells, "gathered-cells"}
    assert INSIDE[cells]["dependentTasks"] == ["grid-planting"]
    assert set(INSIDE["gathered-cells"]["dependentTasks"]) == {"grid-planting", cells}


def test_methods_never_see_what_the_attacker_trained_on_nor_the_clean_classifier() -> None:
    cells, _ = looped(INSIDE)
    (inner,) = SPEC["components"][INSIDE[cells]["componentRef"]["name"]]["dag"]["tasks"].values()
    hidden = {"training_data", "clean_classifier"}
    assert hidden <= read(INSIDE["grid-planting"])
    assert not any(name in key for key in read(INSIDE[cells]) | read(inner) for name in hidden)


def test_the_dag_is_told_all_its_parameters_and_no_others() -> None:
    assert pipeline_arguments(config()).keys() == SPEC["root"]["inputDefinitions"]["parameters"].keys()


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"seeds": 5}, {"backdoor_plan"}),
        ({"attacks": ("patch",)}, {"backdoor_plan"}),
        ({"methods": ("ensemble",)}, {"method_plan"}),
        ({"methods_per_task": 1}, {"method_plan"}),
        ({"ft_sam": {"epochs": 3}}, {"grid_cells_task"}),
        ({"poisoning": {"epochs": 3}}, {"grid_planting_task"}),
        ({"training": {"epochs": 3}}, {"clean_training_task"}),
    ],
)
def test_a_change_leaves_what_does_not_depend_on_it_in_the_cache(changes: dict[str, Any], changed: set[str]) -> None:
    before, after = pipeline_arguments(config()), pipeline_arguments(config(**changes))
    assert {name for name in before if before[name] != after[name]} - {"config", "grid_config"} == changed


def test_methods_are_packed_as_asked_for_and_the_grid_itself_knows_nothing_of_it() -> None:
    told = pipeline_arguments(config(seeds=2, methods=GRID_METHODS[:3], methods_per_task=2))
    assert told["method_plan"] == ["none,fine_tune", "single_trigger"]
    assert told["backdoor_plan"][:3] == [
        {"attack": "patch", "seed": "0"},
        {"attack": "patch", "seed": "1"},
        {"attack": "blended", "seed": "0"},
    ]
    assert "methods_per_task" not in told["grid_config"]


@pytest.mark.parametrize(
    ("unknown", "told"),
    [
        ({"attacks": ("magic",)}, "the attack must be one of .*patch.*, got 'magic'"),
        ({"methods": ("prayer",)}, "unknown method 'prayer': choose one of"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_planted(unknown: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        pipeline_arguments(config(**unknown))


@pytest.mark.parametrize(("changes", "parts"), [({}, 1), ({"methods_per_task": 1}, 2), ({"seeds": 12}, 4)])
def test_a_grid_is_divided_by_its_attacks_into_workflows_that_argo_keeps(changes: dict[str, Any], parts: int) -> None:
    whole = config(**changes)
    found = [part for part in divided(whole, SPEC) if isinstance(part, GridRunConfig)]
    assert len(found) == parts and tuple(name for part in found for name in part.attacks) == whole.attacks
    told = [part_arguments(whole, part, TrackedAs()) for part in found]
    assert max(size_of(SPEC, each).nodes for each in told) <= MOST_NODES
    own = {"config", "grid_config", "backdoor_plan"} if parts > 1 else set()
    assert {name for name in told[0] if told[0][name] != told[-1][name]} == own
