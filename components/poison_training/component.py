"""The component of the stage `poison_training`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def poison_training(
    training_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    clean_classifier: Input[Model],
    backdoored_classifier: Output[Model],
    true_trigger: Output[Artifact],
    trigger: str,
    task: dict,
    label: str = "",
) -> None:
    """Plant the backdoor in a classifier.

    Args:
        training_data: Images that the attacker trains on.
        evaluation_data: Images for the curves only.
        clean_classifier: The classifier before the attack.
        backdoored_classifier: The classifier with the backdoor, and its curves.
        true_trigger: The planted trigger, for the evaluation and the ideal control only.
        trigger: Name of the trigger.
        task: The parameters attack, poisoning, target_class, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import poison_training

    poison_training.run(
        training_data=training_data.path,
        evaluation_data=evaluation_data.path,
        clean_classifier=clean_classifier.path,
        backdoored_classifier=backdoored_classifier.path,
        true_trigger=true_trigger.path,
        trigger=trigger,
        **task,
        label=label,
    )
