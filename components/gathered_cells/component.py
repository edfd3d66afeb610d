"""The component of the stage `gathered_cells`."""

from kfp.dsl import Artifact, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def gathered_cells(
    cells: Input[list[Artifact]], backdoored: Input[Model], found: Output[Artifact], attack: str, seed: str
) -> None:
    """Gather what was found of one backdoor.

    Args:
        cells: What the methods of each task left.
        backdoored: The classifier with the backdoor, and what was planted.
        found: What was planted, and what each method left.
        attack: Name of the attack.
        seed: Which of its repetitions, from 0.
    """
    from untrigger.stages import gathered_cells

    gathered_cells.run(
        cells=[part.path for part in cells],
        backdoored=backdoored.path,
        found=found.path,
        attack=attack,
        seed=seed,
    )
