"""The compiled DAGs over models of others: what depends on what, what each stage is told, how large they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from untrigger.pipelines.arguments import COMPILED, LOOPS, pipeline_arguments
from untrigger.pipelines.cluster.division import MOST_NODES, divided, part_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.settings.model_runs import DefendRunConfig, ReferencesRunConfig, ScanRunConfig
from untrigger.settings.pipelines import CONFIGS, RunConfig
from untrigger.settings.tracked import TrackedAs

SPECS = {name: next(yaml.safe_load_all(COMPILED[name].read_text())) for name in ("scan", "references", "defend")}


def tracked(name: str) -> dict[str, Any]:
    """The tasks between opening and closing the tracking run, loops by what they run over."""
    tasks = SPECS[name]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return {called(tasks, task): spec for task, spec in tasks.items()}


def called(tasks: dict[str, Any], task: str) -> str:
    iterator = tasks[task].get("parameterIterator")
    return task if iterator is None else iterator["items"]["inputParameter"].removeprefix("pipelinechannel--")


def waits(name: str, task: str) -> set[str]:
    tasks = SPECS[name]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return {called(tasks, other) for other in tracked(name)[task]["dependentTasks"]}


@pytest.fixture
def references(tmp_path: Path) -> str:
    """A folder with the names of 99 references."""
    for number in range(1, 100):
        (tmp_path / f"{number:03d}").mkdir()
        (tmp_path / f"{number:03d}" / "classifier.json").touch()
    return str(tmp_path)


def scan(models: int, **changes: Any) -> ScanRunConfig:
    return ScanRunConfig.of({"models": [f"models/{number}.pth" for number in range(models)], **changes})


def test_models_and_references_are_scanned_side_by_side_and_then_judged() -> None:
    for name in ("scan", "defend"):
        assert waits(name, "model_plan") == waits(name, "reference_plan") == {"prepare-data"}
        assert waits(name, "verdicts") == {"model_plan", "reference_plan", "prepare-data"}
        assert waits(name, "prepare-data") == {"open-run"}
    assert waits("defend", "defence") == {"verdicts", "prepare-data"}
    assert waits("references", "gathered-references") == {"reference_plan", "prepare-data"}


def test_only_the_defence_measures_on_the_evaluation_data_and_only_references_are_trained_on_the_training_data() -> (
    None
):
    for name in SPECS:
        for task, spec in tracked(name).items():
            read = {source.get("taskOutputArtifact", {}).get("outputArtifactKey") for source in artifacts(spec)}
            assert ("evaluation_data" in read) == (task == "defence"), (name, task)
            assert ("training_data" in read) == (name == "references" and task == "reference_plan"), (name, task)


def artifacts(task: dict[str, Any]) -> list[dict[str, Any]]:
    return list(task.get("inputs", {}).get("artifacts", {}).values())


def test_every_loop_of_every_dag_runs_over_a_known_parameter() -> None:
    for name in SPECS:
        assert {task for task in tracked(name) if task.endswith("_plan")} <= LOOPS.keys()


@pytest.mark.parametrize(
    "config",
    [
        scan(2),
        ReferencesRunConfig(),
        DefendRunConfig.of({"model": "m.pth"}),
        DefendRunConfig.of({"model": "m.pth", "target_class": 1, "patch_size": 3}),
    ],
)
def test_a_dag_is_told_all_its_parameters_and_no_others(config: RunConfig) -> None:
    name = next(name for name, kind in CONFIGS.items() if kind is type(config))
    assert pipeline_arguments(config).keys() == SPECS[name]["root"]["inputDefinitions"]["parameters"].keys()


def test_what_a_verdict_alone_depends_on_leaves_the_scans_in_the_cache(references: str) -> None:
    strict, lax = (pipeline_arguments(scan(1, level=level, references=references)) for level in (0.01, 0.05))
    assert {name for name in strict if strict[name] != lax[name]} == {"config", "scan_config"}


def test_models_and_references_are_packed_as_asked_for(references: str) -> None:
    told = pipeline_arguments(scan(3, references=references, models_per_task=2, references_per_task=50))
    assert told["model_plan"] == ["models/0.pth\nmodels/1.pth", "models/2.pth"]
    assert [len(names.splitlines()) for names in told["reference_plan"]] == [50, 49]
    trained = pipeline_arguments(ReferencesRunConfig(count=12))
    assert trained["reference_plan"] == ["1,2,3,4,5", "6,7,8,9,10", "11,12"]


def test_what_is_given_is_not_scanned_and_loops_have_an_item_all_the_same(references: str) -> None:
    given = {"model": "m.pth", "target_class": 1, "patch_size": 3, "references": references}
    told = pipeline_arguments(DefendRunConfig.of(given))
    assert told["model_plan"] == told["reference_plan"] == [""]
    assert told["defence_task"]["references"] == references
    assert pipeline_arguments(scan(1))["reference_plan"] == [""]


def test_usual_runs_fit_into_a_workflow(references: str) -> None:
    fitting: list[RunConfig] = [
        scan(50, references=references),
        ReferencesRunConfig(count=99),
        DefendRunConfig.of({"model": "m.pth", "references": references}),
    ]
    for config, name in zip(fitting, SPECS, strict=True):
        assert size_of(SPECS[name], pipeline_arguments(config)).nodes <= MOST_NODES, name
        assert divided(config, SPECS[name]) == [config]


@pytest.mark.parametrize(("models", "per_task", "parts"), [(200, 1, 4), (200, 4, 1)])
def test_many_models_are_divided_into_workflows_that_argo_keeps(
    models: int, per_task: int, parts: int, references: str
) -> None:
    whole = scan(models, references=references, models_per_task=per_task)
    found = [part for part in divided(whole, SPECS["scan"]) if isinstance(part, ScanRunConfig)]
    assert len(found) == parts and tuple(name for part in found for name in part.models) == whole.models
    told = [part_arguments(whole, part, TrackedAs()) for part in found]
    assert max(size_of(SPECS["scan"], each).nodes for each in told) <= MOST_NODES
    assert {name for name in told[0] if told[0][name] != told[-1][name]} <= {"config", "model_plan"}
