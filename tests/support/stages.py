"""Every stage of the tiny pipeline, run once in this process; test modules import the fixture `work`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from tests.support.configs import tiny_config, tiny_sweep
from untrigger.components.aggregation.component import aggregation
from untrigger.components.clean_training.component import clean_training
from untrigger.components.evaluation.component import evaluation
from untrigger.components.generator_training.component import generator_training
from untrigger.components.ideal_retraining.component import ideal_retraining
from untrigger.components.pixel_sgd.component import pixel_sgd
from untrigger.components.poison_training.component import poison_training
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.retraining.component import retraining
from untrigger.components.staircase.component import staircase
from untrigger.components.visualisation.component import visualisation
from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.settings.runs import DefenseConfig

CONFIG = tiny_config(betas_per_task=2, gammas=(2.0, 1.0))
ARGUMENTS = pipeline_arguments(CONFIG)


def artifact(folder: Path, name: str, kind: type[dsl.Artifact] = dsl.Artifact) -> Any:
    return kind(name=name, uri=str(folder / name))


def final_status(state: str) -> dsl.PipelineTaskFinalStatus:
    """How a pipeline ended, as KFP tells the task that closes the run."""
    return dsl.PipelineTaskFinalStatus(
        state=state, pipeline_job_resource_name="", pipeline_task_name="", error_code=None, error_message=None
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All stages run once, in the order of the DAG, and a sweep of the one run; the artifacts by name."""
    root = tmp_path_factory.mktemp("artifacts")
    made = run_stages(root, CONFIG)
    sweep = tiny_sweep(betas_per_task=2, triggers=("checkerboard",))
    made["together"] = artifact(root, "together")
    aggregation.python_func(
        reports=[made["report"]], report=made["together"], config=pipeline_arguments(sweep)["config"]
    )
    return made


def run_stages(root: Path, config: DefenseConfig) -> dict[str, Any]:
    """All stages of a run, in the order of the DAG; the artifacts by name."""
    arguments = pipeline_arguments(config)
    made: dict[str, Any] = {}

    def output(name: str) -> Any:
        made[name] = artifact(root, name)
        return made[name]

    prepare_data.python_func(
        training_data=output("training_data"),
        defender_data=output("defender_data"),
        evaluation_data=output("evaluation_data"),
        task=arguments["prepare_data_task"],
    )
    clean_training.python_func(
        training_data=made["training_data"],
        clean_classifier=output("clean"),
        task=arguments["clean_training_task"],
    )
    poison_training.python_func(
        training_data=made["training_data"],
        evaluation_data=made["evaluation_data"],
        clean_classifier=made["clean"],
        backdoored_classifier=output("backdoored"),
        true_trigger=output("true_trigger"),
        trigger=arguments["trigger"],
        task=arguments["poison_training_task"],
    )
    suspect = {"backdoored_classifier": made["backdoored"], "defender_data": made["defender_data"]}
    pixel_sgd.python_func(**suspect, reversed_triggers=output("reversed"), task=arguments["pixel_sgd_task"])
    for betas in arguments["beta_plan"]:
        generator_training.python_func(
            **suspect,
            trained_generators=output(f"generators-{betas}"),
            betas=betas,
            task=arguments["generator_training_task"],
        )
    staircase.python_func(
        backdoored_classifier=made["backdoored"],
        generators=[made[f"generators-{betas}"] for betas in arguments["beta_plan"]],
        trigger_staircase=output("staircase"),
        gammas=arguments["gammas"],
    )
    visualisation.python_func(
        trigger_staircase=made["staircase"],
        reversed_triggers=made["reversed"],
        true_trigger=made["true_trigger"],
        embedding=output("embedding"),
        task=arguments["visualisation_task"],
    )
    for item in arguments["retraining_plan"]:
        retraining.python_func(
            **suspect,
            trigger_staircase=made["staircase"],
            reversed_triggers=made["reversed"],
            retrained=output(f"retrained-{item['method']}"),
            **item,
            task=arguments["retraining_task"],
        )
    ideal_retraining.python_func(
        training_data=made["training_data"],
        clean_classifier=made["clean"],
        **suspect,
        true_trigger=made["true_trigger"],
        retrained=output("ideal"),
        task=arguments["ideal_retraining_task"],
    )
    evaluation.python_func(
        evaluation_data=made["evaluation_data"],
        **suspect,
        true_trigger=made["true_trigger"],
        trigger_staircase=made["staircase"],
        embedding=made["embedding"],
        retrained=[made[f"retrained-{item['method']}"] for item in arguments["retraining_plan"]],
        ideal=made["ideal"],
        report=output("report"),
        trigger=arguments["trigger"],
        config=arguments["config"],
    )
    return made
