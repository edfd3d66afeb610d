"""The DAG `defense`: plant a backdoor, find its triggers, close it, and measure how well that worked."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from untrigger.components.clean_training.component import clean_training
from untrigger.components.close_run.component import close_run
from untrigger.components.evaluation.component import evaluation
from untrigger.components.generator_training.component import generator_training
from untrigger.components.ideal_retraining.component import ideal_retraining
from untrigger.components.open_run.component import open_run
from untrigger.components.pixel_sgd.component import pixel_sgd
from untrigger.components.poison_training.component import poison_training
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.retraining.component import retraining
from untrigger.components.staircase.component import staircase
from untrigger.components.visualisation.component import visualisation
from untrigger.pipelines.resources import placed


@dsl.pipeline(name="defend-one-trigger", description="Attack, search, defence and evaluation for one trigger.")
def defend_one_trigger(
    training_data: Input[Dataset],
    defender_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    clean_classifier: Input[Model],
    config: dict,
    trigger: str,
    poison_training_task: dict,
    pixel_sgd_task: dict,
    beta_plan: list,
    generator_training_task: dict,
    gammas: list,
    visualisation_task: dict,
    retraining_plan: list,
    retraining_task: dict,
    ideal_retraining_task: dict,
    label: str = "",
) -> dsl.Artifact:
    """From the clean classifier to the report; `label` names the stages apart where there are several such parts."""
    poisoned = placed(
        poison_training(
            training_data=training_data,
            evaluation_data=evaluation_data,
            clean_classifier=clean_classifier,
            trigger=trigger,
            task=poison_training_task,
            label=label,
        )
    )
    true_trigger = poisoned.outputs["true_trigger"]
    suspect = {"backdoored_classifier": poisoned.outputs["backdoored_classifier"], "defender_data": defender_data}

    single = placed(pixel_sgd(**suspect, task=pixel_sgd_task, label=label))
    with dsl.ParallelFor(items=beta_plan, name="beta-plan") as betas:
        stairs = placed(generator_training(**suspect, betas=betas, task=generator_training_task, label=label))
    ensemble = placed(
        staircase(
            generators=dsl.Collected(stairs.outputs["trained_generators"]),
            backdoored_classifier=suspect["backdoored_classifier"],
            gammas=gammas,
            label=label,
        )
    )
    found = {
        "trigger_staircase": ensemble.outputs["trigger_staircase"],
        "reversed_triggers": single.outputs["reversed_triggers"],
    }

    embedding = placed(visualisation(**found, true_trigger=true_trigger, task=visualisation_task, label=label))
    with dsl.ParallelFor(items=retraining_plan, name="retraining-plan") as item:
        defended = placed(
            retraining(**suspect, **found, method=item.method, seeds=item.seeds, task=retraining_task, label=label)
        )
    ideal = placed(
        ideal_retraining(
            training_data=training_data,
            clean_classifier=clean_classifier,
            **suspect,
            true_trigger=true_trigger,
            task=ideal_retraining_task,
            label=label,
        )
    )
    evaluated = placed(
        evaluation(
            evaluation_data=evaluation_data,
            **suspect,
            true_trigger=true_trigger,
            trigger_staircase=ensemble.outputs["trigger_staircase"],
            embedding=embedding.outputs["embedding"],
            retrained=dsl.Collected(defended.outputs["retrained"]),
            ideal=ideal.outputs["retrained"],
            trigger=trigger,
            config=config,
            label=label,
        )
    )
    return evaluated.outputs["report"]


@dsl.pipeline(name="defense", description="Find the distribution of backdoor triggers and retrain against it (MESA).")
def defense(
    config: dict,
    tracking: dict,
    prepare_data_task: dict,
    clean_training_task: dict,
    trigger: str,
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
    """One trigger inside one tracking run, which is closed whatever happens."""
    with dsl.ExitHandler(placed(close_run()), name="tracked"):
        opened = placed(open_run(pipeline="defense", config=config, tracking=tracking))
        prepared = placed(prepare_data(task=prepare_data_task).after(opened))
        clean = placed(clean_training(training_data=prepared.outputs["training_data"], task=clean_training_task))
        # Not as a pipeline of its own, which would cost two nodes and a pod more.
        defend_one_trigger.pipeline_func(
            training_data=prepared.outputs["training_data"],
            defender_data=prepared.outputs["defender_data"],
            evaluation_data=prepared.outputs["evaluation_data"],
            clean_classifier=clean.outputs["clean_classifier"],
            config=config,
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
        )
