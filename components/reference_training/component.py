"""The component of the stage `reference_training`."""

from kfp.dsl import Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def reference_training(
    training_data: Input[Dataset],
    defender_data: Input[Dataset],
    trained: Output[Model],
    numbers: str,
    task: dict,
) -> None:
    """Train clean models to compare with, and scan each as a suspect will be.

    Args:
        training_data: Images that the references are trained on.
        defender_data: Clean images that the defender has, which scans search on.
        trained: A classifier per reference, and what a scan finds in it.
        numbers: The references of this task, joined by commas.
        task: The parameters classifier, training, scan, seed of the stage.
    """
    from untrigger.stages import reference_training

    reference_training.run(
        training_data=training_data.path,
        defender_data=defender_data.path,
        trained=trained.path,
        numbers=numbers,
        **task,
    )
