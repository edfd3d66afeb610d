"""The component of the stage `grid_report`."""

from kfp.dsl import Artifact, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def grid_report(
    found: Input[list[Artifact]], clean_classifier: Input[Model], report: Output[Artifact], config: dict
) -> None:
    """Bring all backdoors of a grid together in tables.

    Args:
        found: What was found of each backdoor.
        clean_classifier: The classifier before any attack, whose kind the tables name.
        report: grid.json, report.html, CSV and LaTeX tables, the heat map, and the cells.
        config: What the grid is told (GridConfig).
    """
    from untrigger.stages import grid_report

    grid_report.run(
        found=[part.path for part in found],
        clean_classifier=clean_classifier.path,
        report=report.path,
        config=config,
    )
