"""The component of the stage `visualisation`."""

from kfp.dsl import Artifact, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def visualisation(
    trigger_staircase: Input[Model],
    reversed_triggers: Input[Artifact],
    true_trigger: Input[Artifact],
    embedding: Output[Artifact],
    task: dict,
    label: str = "",
) -> None:
    """Lay out the trigger distribution in the plane with t-SNE.

    Args:
        trigger_staircase: The ensemble of generators.
        reversed_triggers: The baseline's single triggers.
        true_trigger: The planted trigger, shown beside the others.
        embedding: The figure, and the triggers with their positions.
        task: The parameters attack, visualisation, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import visualisation

    visualisation.run(
        trigger_staircase=trigger_staircase.path,
        reversed_triggers=reversed_triggers.path,
        true_trigger=true_trigger.path,
        embedding=embedding.path,
        **task,
        label=label,
    )
