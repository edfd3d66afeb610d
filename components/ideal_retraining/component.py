"""The component of the stage `ideal_retraining`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def ideal_retraining(
    training_data: Input[Dataset],
    clean_classifier: Input[Model],
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    true_trigger: Input[Artifact],
    retrained: Output[Model],
    task: dict,
    label: str = "",
) -> None:
    """Retrain with the attacker's own trigger, which no defender has: the control for all other methods.

    A second control, single_trigger_elsewhere, needs that trigger, too, and runs here where it is among the methods.

    Args:
        training_data: Images that the attacker trains on, for the second control only.
        clean_classifier: The classifier before the attack, for the second control only.
        backdoored_classifier: The classifier to be cured.
        defender_data: Clean images that the defender has.
        true_trigger: The planted trigger.
        retrained: One classifier per seed, and the curves; a folder of these for each control where there are two.
        task: The parameters seeds, attack, retraining, strongest_left, elsewhere, target_class, seed.
        label: Sets the stage apart from others of its kind in progress and tracking, and its restarts from theirs.
    """
    from untrigger.stages import ideal_retraining

    ideal_retraining.run(
        training_data=training_data.path,
        clean_classifier=clean_classifier.path,
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        true_trigger=true_trigger.path,
        retrained=retrained.path,
        **task,
        label=label,
    )
