"""The DAG `defend`: a model of others scanned, unless class and patch size are given, and closed."""

from kfp import dsl

from untrigger.components.close_run.component import close_run
from untrigger.components.defence.component import defence
from untrigger.components.open_run.component import open_run
from untrigger.components.prepare_data.component import prepare_data
from untrigger.pipelines.resources import placed
from untrigger.pipelines.scan import judged


@dsl.pipeline(name="defend", description="Close what opens a model of somebody else.")
def defend(
    config: dict,
    tracking: dict,
    prepare_data_task: dict,
    model_plan: list,
    model_scan_task: dict,
    reference_plan: list,
    reference_scan_task: dict,
    scan_config: dict,
    defence_task: dict,
) -> None:
    """One model inside one tracking run, which is closed whatever happens."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="defend", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        scanned = judged(
            prepared.outputs["defender_data"],
            model_plan=model_plan,
            model_scan_task=model_scan_task,
            reference_plan=reference_plan,
            reference_scan_task=reference_scan_task,
            scan_config=scan_config,
            tracking=tracking,
            label="scan",
        )
        placed(
            defence(
                defender_data=prepared.outputs["defender_data"],
                evaluation_data=prepared.outputs["evaluation_data"],
                scans=scanned.outputs["report"],
                task=defence_task,
                tracking=tracking,
            )
        )
