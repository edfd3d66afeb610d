"""The DAG `defense`: plant a backdoor, find its triggers, close it, and measure how well that worked."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from untrigger.components.clean_training.component import clean_training
from untrigger.components.close_run.component import close_run
from untrigger.components.evaluation.component import evaluation
from untrigger.components.generator_training.component import generator_training
from untrigger.components.ideal_retraining.component import ideal_retraining
from untrigger.components.open_run.component import open_run
from untrigger.components.pixel_sgd.component import pixel_sgd as reverse_single_triggers
from untrigger.components.poison_training.component import poison_training
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.retraining.component import retraining as retrain
from untrigger.components.staircase.component import staircase
from untrigger.components.visualisation.component import visualisation as visualise
from untrigger.pipelines.resources import placed


@dsl.pipeline(name="defend-one-trigger", description="Attack, search, defence and evaluation for one trigger.")
def defend_one_trigger(
    training_data: Input[Dataset],
    defender_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    clean_classifier: Input[Model],
    config: dict,
    trigger: str,
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
    label: str = "",
) -> dsl.Artifact:
    """From the clean classifier to the report; `label` names the stages apart where there are several such parts."""
    poisoned = placed(
        poison_training(
            training_data=training_data,
            evaluation_data=evaluation_data,
            clean_classifier=clean_classifier,
            trigger=trigger,
            poisoning=poisoning,
            target_class=target_class,
            seed=seed,
            label=label,
        ),
        "poison training",
    )
    backdoored = poisoned.outputs["backdoored_classifier"]
    true_trigger = poisoned.outputs["true_trigger"]

    single = placed(
        reverse_single_triggers(
            backdoored_classifier=backdoored,
            defender_data=defender_data,
            pixel_sgd=pixel_sgd,
            target_class=target_class,
            trigger_size=trigger_size,
            seed=seed,
            label=label,
        ),
        "pixel SGD",
    )
    with dsl.ParallelFor(items=beta_plan, name="beta-plan") as betas:
        stairs = placed(
            generator_training(
                backdoored_classifier=backdoored,
                defender_data=defender_data,
                betas=betas,
                generator=generator,
                target_class=target_class,
                trigger_size=trigger_size,
                seed=seed,
                label=label,
            ),
            "generator training",
        )
    ensemble = placed(
        staircase(generators=dsl.Collected(stairs.outputs["trained_generators"]), gammas=gammas, label=label),
        "staircase",
    )

    embedding = placed(
        visualise(
            trigger_staircase=ensemble.outputs["trigger_staircase"],
            reversed_triggers=single.outputs["reversed_triggers"],
            true_trigger=true_trigger,
            visualisation=visualisation,
            seed=seed,
            label=label,
        ),
        "t-SNE visualisation",
    )
    with dsl.ParallelFor(items=retraining_plan, name="retraining-plan") as item:
        defended = placed(
            retrain(
                backdoored_classifier=backdoored,
                defender_data=defender_data,
                trigger_staircase=ensemble.outputs["trigger_staircase"],
                reversed_triggers=single.outputs["reversed_triggers"],
                method=item.method,
                seeds=item.seeds,
                retraining=retraining,
                target_class=target_class,
                seed=seed,
                label=label,
            ),
            "retraining",
        )
    ideal = placed(
        ideal_retraining(
            backdoored_classifier=backdoored,
            defender_data=defender_data,
            true_trigger=true_trigger,
            seeds=ideal_seeds,
            retraining=retraining,
            target_class=target_class,
            seed=seed,
            label=label,
        ),
        "ideal retraining",
    )
    evaluated = placed(
        evaluation(
            evaluation_data=evaluation_data,
            defender_data=defender_data,
            backdoored_classifier=backdoored,
            true_trigger=true_trigger,
            trigger_staircase=ensemble.outputs["trigger_staircase"],
            embedding=embedding.outputs["embedding"],
            retrained=dsl.Collected(defended.outputs["retrained"]),
            ideal=ideal.outputs["retrained"],
            trigger=trigger,
            config=config,
            label=label,
        ),
        "evaluation",
    )
    return evaluated.outputs["report"]


@dsl.pipeline(name="defense", description="Find the distribution of backdoor triggers and retrain against it (MESA).")
def defense(
    config: dict,
    dataset: str,
    data: dict,
    classifier: dict,
    training: dict,
    weights: str,
    patch_sizes: list,
    trigger: str,
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
    """One trigger inside one tracking run, which is closed whatever happens."""
    with dsl.ExitHandler(placed(close_run(), "close run"), name="tracked"):
        opened = placed(open_run(pipeline="defense", config=config), "open run")
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
        defend_one_trigger(
            training_data=prepared.outputs["training_data"],
            defender_data=prepared.outputs["defender_data"],
            evaluation_data=prepared.outputs["evaluation_data"],
            clean_classifier=clean.outputs["clean_classifier"],
            config=config,
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
        )
