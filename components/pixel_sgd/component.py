"""The component of the stage `pixel_sgd`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def pixel_sgd(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    reversed_triggers: Output[Artifact],
    task: dict,
    label: str = "",
) -> None:
    """Reverse single triggers by gradient descent in pixel space, one per restart.

    Args:
        backdoored_classifier: The classifier under suspicion.
        defender_data: Clean images that the defender has.
        reversed_triggers: The reversed triggers and their strength.
        task: The parameters pixel_sgd, target_class, search_images, trigger_size, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking, and its restarts from theirs.
    """
    from untrigger.stages import single_triggers

    single_triggers.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        reversed_triggers=reversed_triggers.path,
        **task,
        label=label,
    )
