"""The DAG `paper`: the paper's experiment, one attack and defence per trigger, and their results brought together."""

from kfp import dsl

from untrigger.components.aggregation.component import aggregation
from untrigger.components.clean_training.component import clean_training
from untrigger.components.close_run.component import close_run
from untrigger.components.open_run.component import open_run
from untrigger.components.prepare_data.component import prepare_data
from untrigger.pipelines.defense import defend_one_trigger
from untrigger.pipelines.resources import placed


@dsl.pipeline(name="paper", description="The paper's experiment: MESA against many triggers, one after the other.")
def sweep(
    config: dict,
    tracking: dict,
    config_per_trigger: dict,
    prepare_data_task: dict,
    clean_training_task: dict,
    triggers: list,
    poison_training_task: dict,
    pixel_sgd_task: dict,
    beta_plan: list,
    generator_training_task: dict,
    gammas: list,
    visualisation_task: dict,
    retraining_plan: list,
    retraining_task: dict,
    ideal_retraining_task: dict,
) -> None:
    """All triggers inside one tracking run, which is closed whatever happens; data and clean classifier are shared."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="paper", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        clean = placed(clean_training(training_data=prepared.outputs["training_data"], task=clean_training_task))
        with dsl.ParallelFor(items=triggers, name="triggers") as trigger:
            one = defend_one_trigger(
                training_data=prepared.outputs["training_data"],
                defender_data=prepared.outputs["defender_data"],
                evaluation_data=prepared.outputs["evaluation_data"],
                clean_classifier=clean.outputs["clean_classifier"],
                config=config_per_trigger,
                trigger=trigger,
                poison_training_task=poison_training_task,
                pixel_sgd_task=pixel_sgd_task,
                beta_plan=beta_plan,
                generator_training_task=generator_training_task,
                gammas=gammas,
                visualisation_task=visualisation_task,
                retraining_plan=retraining_plan,
                retraining_task=retraining_task,
                ideal_retraining_task=ideal_retraining_task,
                label=trigger,
            )
        placed(aggregation(reports=dsl.Collected(one.output), config=config))
