"""The component of the stage `grid_cells`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def grid_cells(
    backdoored: Input[Model],
    defender_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    cells: Output[Artifact],
    attack: str,
    seed: str,
    methods: str,
    task: dict,
) -> None:
    """Set methods of defence against one backdoor, and measure what each leaves of it.

    Args:
        backdoored: The classifier with the backdoor, and what was planted.
        defender_data: Clean images that the defender has.
        evaluation_data: Images that only the measurement uses.
        cells: What each method left, and at what cost.
        attack: Name of the attack.
        seed: Which of its repetitions, from 0.
        methods: The methods of this task, joined by commas.
        task: The parameters trigger, config of the stage.
    """
    from untrigger.stages import grid_cells

    grid_cells.run(
        backdoored=backdoored.path,
        defender_data=defender_data.path,
        evaluation_data=evaluation_data.path,
        cells=cells.path,
        attack=attack,
        seed=seed,
        methods=methods,
        **task,
    )
