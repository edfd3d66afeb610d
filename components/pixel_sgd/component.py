"""The component of the stage `pixel_sgd`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component("pixel_sgd")
def pixel_sgd(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    reversed_triggers: Output[Artifact],
    pixel_sgd: dict,
    target_class: int,
    trigger_size: list,
    seed: int,
    label: str = "",
) -> None:
    """Reverse single triggers by gradient descent in pixel space, one per restart.

    Args:
        backdoored_classifier: The classifier under suspicion.
        defender_data: Clean images that the defender has.
        reversed_triggers: The reversed triggers and their strength.
        pixel_sgd: PixelSgdSettings.
        target_class: Class under suspicion.
        trigger_size: Height and width of the triggers to look for.
        seed: Seed of the whole run.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import pixel_sgd as stage

    stage.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        reversed_triggers=reversed_triggers.path,
        pixel_sgd=pixel_sgd,
        target_class=target_class,
        trigger_size=trigger_size,
        seed=seed,
        label=label,
    )
