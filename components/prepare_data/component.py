"""The component of the stage `prepare_data`."""

from kfp.dsl import Dataset, Output

from untrigger.components.stage_component import stage_component


@stage_component("prepare_data")
def prepare_data(
    training_data: Output[Dataset],
    defender_data: Output[Dataset],
    evaluation_data: Output[Dataset],
    dataset: str,
    data: dict,
    patch_sizes: list,
    target_class: int,
    seed: int,
) -> None:
    """Read a dataset, split it three ways, and check that the attack and the search fit it.

    Args:
        training_data: Images that the attacker trains on.
        defender_data: Clean images that the defender has.
        evaluation_data: Images that only the evaluation uses.
        dataset: Name of the dataset, such as digits, cifar10 or parquet:PATH.
        data: DataSettings.
        patch_sizes: Heights and widths of the triggers that are planted or looked for.
        target_class: Class that the backdoor leads to.
        seed: Seed of the whole run.
    """
    from untrigger.stages import prepare_data

    prepare_data.run(
        training_data=training_data.path,
        defender_data=defender_data.path,
        evaluation_data=evaluation_data.path,
        dataset=dataset,
        data=data,
        patch_sizes=patch_sizes,
        target_class=target_class,
        seed=seed,
    )
