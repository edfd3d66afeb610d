"""The compiled DAG: what depends on what, and who is handed the true trigger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.configs import tiny_config
from tests.support.files import picture
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments
from untrigger.pipelines.compilation import compile_all
from untrigger.profiles import config_for
from untrigger.settings.runs import DefenseConfig


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return next(yaml.safe_load_all(COMPILED["defense"].read_text()))


def tasks(spec: dict[str, Any], component: str) -> dict[str, Any]:
    return spec["components"][component]["dag"]["tasks"]


@pytest.fixture(scope="module")
def work(spec: dict[str, Any]) -> dict[str, Any]:
    """The tasks inside the tracking run."""
    return tasks(spec, "comp-exit-handler-1")


def test_the_committed_yaml_is_what_the_code_compiles_to(tmp_path: Path) -> None:
    for path in compile_all(tmp_path):
        assert path.read_text() == COMPILED[path.stem].read_text(), "run `untrigger compile`"


@pytest.mark.parametrize(
    ("task", "after"),
    [
        ("pixel-sgd", {"poison-training", "prepare-data"}),
        ("for-loop-beta-plan", {"poison-training", "prepare-data"}),
        ("staircase", {"for-loop-beta-plan", "poison-training"}),
        ("visualisation", {"staircase", "pixel-sgd", "poison-training"}),
        ("for-loop-retraining-plan", {"poison-training", "pixel-sgd", "staircase", "prepare-data"}),
        ("ideal-retraining", {"poison-training", "prepare-data", "clean-training"}),
    ],
)
def test_each_stage_waits_for_exactly_what_it_reads(work: dict[str, Any], task: str, after: set[str]) -> None:
    assert {loop_name(work, name) for name in work[real_name(work, task)]["dependentTasks"]} == after


def real_name(work: dict[str, Any], name: str) -> str:
    if not name.startswith("for-loop-"):
        return name
    return next(task for task, spec in work.items() if loop_name(work, task) == name)


def loop_name(work: dict[str, Any], task: str) -> str:
    iterator = work[task].get("parameterIterator")
    if iterator is None:
        return task
    parameter = iterator["items"]["inputParameter"].removeprefix("pipelinechannel--")
    return f"for-loop-{parameter.replace('_', '-')}"


def inputs_of(task: dict[str, Any]) -> set[str]:
    return {
        artifact.get("taskOutputArtifact", {}).get("outputArtifactKey", artifact.get("componentInputArtifact", ""))
        for artifact in task.get("inputs", {}).get("artifacts", {}).values()
    }


def test_no_stage_of_the_defender_is_handed_the_true_trigger(spec: dict[str, Any], work: dict[str, Any]) -> None:
    defender = ("pixel-sgd", "for-loop-beta-plan", "staircase", "for-loop-retraining-plan")
    for name in defender:
        assert not any("true_trigger" in given for given in inputs_of(work[real_name(work, name)])), name
    with_trigger = {name for name, task in work.items() if any("true_trigger" in i for i in inputs_of(task))}
    assert with_trigger == {"visualisation", "ideal-retraining", "evaluation"}


def test_only_the_evaluation_and_the_attackers_curves_see_the_evaluation_data(work: dict[str, Any]) -> None:
    seen_by = {name for name, task in work.items() if any("evaluation_data" in given for given in inputs_of(task))}
    assert seen_by == {"poison-training", "evaluation"}


def test_the_fan_outs_run_over_pipeline_parameters(work: dict[str, Any]) -> None:
    loops = {t["parameterIterator"]["items"]["inputParameter"] for t in work.values() if "parameterIterator" in t}
    assert loops == {"pipelinechannel--beta_plan", "pipelinechannel--retraining_plan"}


def test_no_parameter_tells_the_defender_what_the_trigger_is(work: dict[str, Any]) -> None:
    for name in ("pixel-sgd", "for-loop-beta-plan", "staircase", "for-loop-retraining-plan"):
        given = work[real_name(work, name)]["inputs"].get("parameters", {}).values()
        sources = {parameter.get("componentInputParameter") for parameter in given}
        assert not sources & {"trigger", "poison_training_task", "config"}, name


def test_each_stage_is_told_what_it_uses_and_no_more(spec: dict[str, Any]) -> None:
    told, other = (pipeline_arguments(tiny_config(generator={"alpha": alpha})) for alpha in (0.1, 0.2))
    assert {name for name in told if told[name] != other[name]} == {"config", "generator_training_task"}
    assert told.keys() == spec["root"]["inputDefinitions"]["parameters"].keys()


def test_only_the_attacker_the_controls_and_the_picture_are_told_of_the_attack() -> None:
    patch, blended = (pipeline_arguments(tiny_config(attack={"name": name})) for name in ("patch", "blended"))
    told = {name for name in patch if patch[name] != blended[name]}
    assert told == {"config", "poison_training_task", "visualisation_task", "ideal_retraining_task"}


def test_a_picture_that_is_blended_in_may_be_larger_than_the_images_and_a_patch_may_not(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(picture(100, size=(64, 48)))
    sizes = {
        name: pipeline_arguments(tiny_config(attack={"name": name}, trigger=str(tmp_path / "large.png")))[
            "prepare_data_task"
        ]["patch_sizes"]
        for name in ("patch", "blended")
    }
    assert sizes == {"patch": [[3, 3], [48, 64]], "blended": [[3, 3]]}


def test_only_an_attack_on_one_class_is_told_to_the_preparation_of_the_data() -> None:
    attack = {"goal": "one_to_one", "source_class": 3}
    every, one = (pipeline_arguments(tiny_config(attack=told))["prepare_data_task"] for told in ({}, attack))
    assert one == {**every, "source_class": 3}


def test_only_a_search_by_flows_is_told_their_settings() -> None:
    mine, flow = (
        pipeline_arguments(tiny_config(generator={"family": family}, flow={"steps": 3})) for family in ("mine", "flow")
    )
    assert mine["generator_training_task"]["flow"] == {} and flow["generator_training_task"]["flow"]["steps"] == 3
    assert mine["prepare_data_task"]["generator_batch_size"] == 64, "the images that a step of theirs needs at least"
    assert flow["prepare_data_task"]["generator_batch_size"] == 0


def test_every_stage_that_searches_is_told_over_which_images_f_is_averaged() -> None:
    for profile, images in (("paper", "all"), ("demo", "other_classes")):
        arguments = pipeline_arguments(config_for(profile, {}, DefenseConfig))
        for task in ("prepare_data_task", "pixel_sgd_task", "generator_training_task"):
            assert arguments[task]["search_images"] == images


def test_only_retraining_in_rounds_is_told_how_to_search() -> None:
    once, often = (
        pipeline_arguments(tiny_config(retraining={"rounds": rounds}, strongest_left={"steps": 7})) for rounds in (1, 2)
    )
    for task in ("retraining_task", "ideal_retraining_task"):
        assert once[task]["strongest_left"] == {} and often[task]["strongest_left"]["steps"] == 7


def test_only_the_stage_of_the_controls_is_told_of_the_one_from_elsewhere() -> None:
    methods = ("single_trigger", "ensemble")
    without, other, told = (
        pipeline_arguments(tiny_config(methods=wanted, elsewhere={"chain": (name,)}))
        for wanted, name in (
            (methods, "binary:1"),
            (methods, "binary:2"),
            (("single_trigger", "single_trigger_elsewhere", "ensemble"), "binary:2"),
        )
    )
    assert {name for name in without if without[name] != other[name]} == {"config"}
    assert {name for name in other if other[name] != told[name]} == {"config", "ideal_retraining_task"}
    search = told["ideal_retraining_task"]["elsewhere"]
    assert search["chain"] == ["binary:2"] and search["poisoning"] == told["poison_training_task"]["poisoning"]


def test_the_tracking_run_is_opened_first_and_closed_whatever_happens(spec: dict[str, Any]) -> None:
    outer = spec["root"]["dag"]["tasks"]
    assert outer["close-run"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    handled = tasks(spec, outer["exit-handler-1"]["componentRef"]["name"])
    assert handled["prepare-data"]["dependentTasks"] == ["open-run"]
    assert handled["clean-training"]["dependentTasks"] == ["prepare-data"]
    assert handled["poison-training"]["dependentTasks"] == ["clean-training", "prepare-data"]
    assert "enableCache" not in handled["open-run"].get("cachingOptions", {})


def test_each_beta_keeps_its_weight_whatever_the_order_they_are_given_in() -> None:
    arguments = pipeline_arguments(tiny_config(betas=(0.9, 0.5), gammas=(1.0, 2.0)))
    assert arguments["beta_plan"] == ["0.9", "0.5"], "one task per beta unless told otherwise"
    assert arguments["gammas"] == [2.0, 1.0], "by rising beta, as the staircase wants them"


@pytest.mark.parametrize(
    ("per_task", "plan"), [(1, ["0.5", "0.8", "0.9"]), (2, ["0.5,0.8", "0.9"]), (9, ["0.5,0.8,0.9"])]
)
def test_stairs_are_packed_into_as_many_tasks_as_asked_for(per_task: int, plan: list[str]) -> None:
    config = tiny_config(betas=(0.5, 0.8, 0.9), betas_per_task=per_task)
    assert pipeline_arguments(config)["beta_plan"] == plan


@pytest.mark.parametrize(("per_task", "plan"), [(1, 5), (2, 3), (9, 1)])
def test_methods_are_packed_into_as_many_tasks_as_asked_for(per_task: int, plan: int) -> None:
    config = tiny_config(betas=(0.5,), methods_per_task=per_task)
    methods = [item["method"] for item in pipeline_arguments(config)["retraining_plan"]]
    assert len(methods) == plan
    assert ",".join(methods) == "none,fine_tune,single_trigger,beta=0.5,ensemble"
