"""The component of the stage `staircase`."""

from kfp.dsl import Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def staircase(
    generators: Input[list[Model]],
    backdoored_classifier: Input[Model],
    trigger_staircase: Output[Model],
    gammas: list,
    label: str = "",
) -> None:
    """Gather the generators of the fan-out into one ensemble.

    Args:
        generators: One generator per beta.
        backdoored_classifier: Not read: KFP's launcher opens the store of an earlier run for the first artifact of each
            input only, and fails where the first generator is fresh and a later one cached; this one is cached then.
        trigger_staircase: The ensemble, its stairs by rising beta.
        gammas: Weights of the stairs by rising beta; empty for equal weights.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import gather_stairs

    gather_stairs.run(
        generators=[generator.path for generator in generators],
        trigger_staircase=trigger_staircase.path,
        gammas=gammas,
        label=label,
    )
