"""The DAG `scan`: models of others searched for backdoors, and judged among clean references."""

from typing import Any

from kfp import dsl

from untrigger.components.close_run.component import close_run
from untrigger.components.model_scan.component import model_scan
from untrigger.components.open_run.component import open_run
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.reference_scan.component import reference_scan
from untrigger.components.verdicts.component import verdicts
from untrigger.pipelines.resources import placed


def judged(
    defender_data: Any,
    *,
    model_plan: Any,
    model_scan_task: Any,
    reference_plan: Any,
    reference_scan_task: Any,
    scan_config: Any,
    tracking: Any,
    label: str = "",
) -> Any:
    """The part of a DAG that scans models and references side by side; the task that judges."""
    with dsl.ParallelFor(items=model_plan, name="model-plan") as models:
        suspects = placed(model_scan(defender_data=defender_data, models=models, task=model_scan_task))
    with dsl.ParallelFor(items=reference_plan, name="reference-plan") as names:
        references = placed(reference_scan(defender_data=defender_data, names=names, task=reference_scan_task))
    return placed(
        verdicts(
            model_scans=dsl.Collected(suspects.outputs["scanned"]),
            reference_scans=dsl.Collected(references.outputs["scanned"]),
            defender_data=defender_data,
            config=scan_config,
            tracking=tracking,
            label=label,
        )
    )


@dsl.pipeline(name="scan", description="Search models for backdoors, and judge them among clean references.")
def scan(
    config: dict,
    tracking: dict,
    prepare_data_task: dict,
    model_plan: list,
    model_scan_task: dict,
    reference_plan: list,
    reference_scan_task: dict,
    scan_config: dict,
) -> None:
    """All models inside one tracking run, which is closed whatever happens."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="scan", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        judged(
            prepared.outputs["defender_data"],
            model_plan=model_plan,
            model_scan_task=model_scan_task,
            reference_plan=reference_plan,
            reference_scan_task=reference_scan_task,
            scan_config=scan_config,
            tracking=tracking,
        )
