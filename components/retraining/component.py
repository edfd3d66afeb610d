"""The component of the stage `retraining`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def retraining(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    trigger_staircase: Input[Model],
    reversed_triggers: Input[Artifact],
    retrained: Output[Model],
    method: str,
    seeds: str,
    task: dict,
    label: str = "",
) -> None:
    """Retrain with methods of defence, each once per seed. It is never handed the true trigger.

    Args:
        backdoored_classifier: The classifier to be cured.
        defender_data: Clean images that the defender has.
        trigger_staircase: The ensemble of generators.
        reversed_triggers: The baseline's single triggers.
        retrained: One classifier per seed, and the curves; a folder of these for each method where there are several.
        method: none, fine_tune, single_trigger, beta=B or ensemble; several joined by commas.
        seeds: Seeds that this task runs, joined by commas.
        task: The parameters retraining, strongest_left, target_class, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import method_retraining

    method_retraining.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        trigger_staircase=trigger_staircase.path,
        reversed_triggers=reversed_triggers.path,
        retrained=retrained.path,
        method=method,
        seeds=seeds,
        **task,
        label=label,
    )
