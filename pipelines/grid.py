"""The DAG `grid`: attacks set against methods of defence, backdoor by backdoor."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from untrigger.components.clean_training.component import clean_training
from untrigger.components.close_run.component import close_run
from untrigger.components.gathered_cells.component import gathered_cells
from untrigger.components.grid_cells.component import grid_cells
from untrigger.components.grid_planting.component import grid_planting
from untrigger.components.grid_report.component import grid_report
from untrigger.components.open_run.component import open_run
from untrigger.components.prepare_data.component import prepare_data
from untrigger.pipelines.resources import placed


@dsl.pipeline(name="close-one-backdoor", description="One backdoor planted, and closed by each method.")
def close_one_backdoor(
    training_data: Input[Dataset],
    defender_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    clean_classifier: Input[Model],
    attack: str,
    seed: str,
    grid_planting_task: dict,
    method_plan: list,
    grid_cells_task: dict,
) -> dsl.Artifact:
    """From the clean classifier to what each method leaves."""
    which = {"attack": attack, "seed": seed}
    planted = placed(
        grid_planting(
            training_data=training_data,
            evaluation_data=evaluation_data,
            clean_classifier=clean_classifier,
            **which,
            task=grid_planting_task,
        )
    )
    with dsl.ParallelFor(items=method_plan, name="method-plan") as methods:
        left = placed(
            grid_cells(
                backdoored=planted.outputs["backdoored"],
                defender_data=defender_data,
                evaluation_data=evaluation_data,
                **which,
                methods=methods,
                task=grid_cells_task,
            )
        )
    gathered = placed(
        gathered_cells(cells=dsl.Collected(left.outputs["cells"]), backdoored=planted.outputs["backdoored"], **which)
    )
    return gathered.outputs["found"]


@dsl.pipeline(name="grid", description="Attacks set against methods of defence, on the same data and seeds.")
def grid(
    config: dict,
    tracking: dict,
    prepare_data_task: dict,
    clean_training_task: dict,
    backdoor_plan: list,
    grid_planting_task: dict,
    method_plan: list,
    grid_cells_task: dict,
    grid_config: dict,
) -> None:
    """All backdoors inside one tracking run, which is closed whatever happens; they share the clean classifier."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="grid", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        clean = placed(clean_training(training_data=prepared.outputs["training_data"], task=clean_training_task))
        clean_classifier = clean.outputs["clean_classifier"]
        with dsl.ParallelFor(items=backdoor_plan, name="backdoor-plan") as backdoor:
            one = close_one_backdoor(
                training_data=prepared.outputs["training_data"],
                defender_data=prepared.outputs["defender_data"],
                evaluation_data=prepared.outputs["evaluation_data"],
                clean_classifier=clean_classifier,
                attack=backdoor.attack,
                seed=backdoor.seed,
                grid_planting_task=grid_planting_task,
                method_plan=method_plan,
                grid_cells_task=grid_cells_task,
            )
        placed(grid_report(found=dsl.Collected(one.output), clean_classifier=clean_classifier, config=grid_config))
