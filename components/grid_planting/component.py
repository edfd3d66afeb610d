"""The component of the stage `grid_planting`."""

from kfp.dsl import Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def grid_planting(
    training_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    clean_classifier: Input[Model],
    backdoored: Output[Model],
    attack: str,
    seed: str,
    task: dict,
) -> None:
    """Plant one backdoor of a grid, and measure it.

    Args:
        training_data: Images that the attacker trains on.
        evaluation_data: Images that only the measurement uses.
        clean_classifier: The classifier before any attack.
        backdoored: The classifier with the backdoor, and what was planted.
        attack: Name of the attack.
        seed: Which of its repetitions, from 0.
        task: The parameters trigger, config of the stage.
    """
    from untrigger.stages import grid_planting

    grid_planting.run(
        training_data=training_data.path,
        evaluation_data=evaluation_data.path,
        clean_classifier=clean_classifier.path,
        backdoored=backdoored.path,
        attack=attack,
        seed=seed,
        **task,
    )
