"""The component of the stage `prepare_data`."""

from kfp.dsl import Dataset, Output

from untrigger.components.stage_component import stage_component


@stage_component
def prepare_data(
    training_data: Output[Dataset],
    defender_data: Output[Dataset],
    evaluation_data: Output[Dataset],
    task: dict,
) -> None:
    """Read a dataset, split it three ways, and check that the attack and the search fit it.

    Args:
        training_data: Images that the attacker trains on.
        defender_data: Clean images that the defender has.
        evaluation_data: Images that only the evaluation uses.
        task: The parameters dataset, data, patch_sizes, target_class, source_class, search_images,
            generator_batch_size, seed of the stage.
    """
    from untrigger.stages import prepare_data

    prepare_data.run(
        training_data=training_data.path,
        defender_data=defender_data.path,
        evaluation_data=evaluation_data.path,
        **task,
    )
