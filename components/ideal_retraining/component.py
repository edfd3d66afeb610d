"""The component of the stage `ideal_retraining`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def ideal_retraining(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    true_trigger: Input[Artifact],
    retrained: Output[Model],
    task: dict,
    label: str = "",
) -> None:
    """Retrain with the attacker's own trigger, which no defender has: the control for all other methods.

    Args:
        backdoored_classifier: The classifier to be cured.
        defender_data: Clean images that the defender has.
        true_trigger: The planted trigger.
        retrained: One classifier per seed, and the curves.
        task: The parameters seeds, retraining, strongest_left, target_class, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import ideal_retraining

    ideal_retraining.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        true_trigger=true_trigger.path,
        retrained=retrained.path,
        **task,
        label=label,
    )
