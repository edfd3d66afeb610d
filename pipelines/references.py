"""The DAG `references`: clean models to compare with, each from an initialisation of its own."""

from kfp import dsl

from untrigger.components.close_run.component import close_run
from untrigger.components.gathered_references.component import gathered_references
from untrigger.components.open_run.component import open_run
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.reference_training.component import reference_training
from untrigger.pipelines.resources import placed


@dsl.pipeline(name="references", description="Train clean models to compare suspects with, and scan each.")
def references(
    config: dict,
    tracking: dict,
    prepare_data_task: dict,
    reference_plan: list,
    reference_training_task: dict,
) -> None:
    """All references inside one tracking run, which is closed whatever happens."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="references", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        defender_data = prepared.outputs["defender_data"]
        with dsl.ParallelFor(items=reference_plan, name="reference-plan") as numbers:
            trained = placed(
                reference_training(
                    training_data=prepared.outputs["training_data"],
                    defender_data=defender_data,
                    numbers=numbers,
                    task=reference_training_task,
                )
            )
        collected = dsl.Collected(trained.outputs["trained"])
        placed(gathered_references(trained=collected, defender_data=defender_data, config=config))
