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
    config_per_trigger: dict,
    dataset: str,
    data: dict,
    classifier: dict,
    training: dict,
    weights: str,
    patch_sizes: list,
    triggers: list,
    poisoning: dict,
    pixel_sgd: dict,
    beta_plan: list,
    gammas: list,
    generator: dict,
    retraining: dict,
    retraining_plan: list,
    ideal_seeds: str,
    visualisation: dict,
    target_class: int,
    trigger_size: list,
    seed: int,
) -> None:
    """All triggers inside one tracking run, which is closed whatever happens; data and clean classifier are shared."""
    with dsl.ExitHandler(placed(close_run(), "close run"), name="tracked"):
        opened = placed(open_run(pipeline="paper", config=config), "open run")
        prepared = placed(
            prepare_data(
                dataset=dataset,
                data=data,
                patch_sizes=patch_sizes,
                target_class=target_class,
                seed=seed,
            ).after(opened),
            "prepare data",
        )
        clean = placed(
            clean_training(
                training_data=prepared.outputs["training_data"],
                classifier=classifier,
                training=training,
                weights=weights,
                seed=seed,
            ),
            "clean training",
        )
        with dsl.ParallelFor(items=triggers, name="triggers") as trigger:
            one = defend_one_trigger(
                training_data=prepared.outputs["training_data"],
                defender_data=prepared.outputs["defender_data"],
                evaluation_data=prepared.outputs["evaluation_data"],
                clean_classifier=clean.outputs["clean_classifier"],
                config=config_per_trigger,
                trigger=trigger,
                poisoning=poisoning,
                pixel_sgd=pixel_sgd,
                beta_plan=beta_plan,
                gammas=gammas,
                generator=generator,
                retraining=retraining,
                retraining_plan=retraining_plan,
                ideal_seeds=ideal_seeds,
                visualisation=visualisation,
                target_class=target_class,
                trigger_size=trigger_size,
                seed=seed,
                label=trigger,
            )
        placed(aggregation(reports=dsl.Collected(one.output), config=config), "aggregation")
