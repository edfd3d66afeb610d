"""The component of the stage `generator_training`."""

from kfp.dsl import Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def generator_training(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    trained_generators: Output[Model],
    betas: str,
    task: dict,
    label: str = "",
) -> None:
    """Train the generators of one stair or several, F >= beta, and measure how well they are filled.

    Args:
        backdoored_classifier: The classifier under suspicion.
        defender_data: Clean images that the defender has.
        trained_generators: Per stair the generator, its curves, its measurement on fresh samples, a flow's valid ones.
        betas: The stairs of this task, joined by commas.
        task: The parameters generator, flow, target_class, search_images, trigger_size, seed of the stage.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import generator_training

    generator_training.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        trained_generators=trained_generators.path,
        betas=betas,
        **task,
        label=label,
    )
