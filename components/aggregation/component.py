"""The component of the stage `aggregation`."""

from kfp.dsl import Artifact, Input, Output

from untrigger.components.stage_component import stage_component


@stage_component
def aggregation(reports: Input[list[Artifact]], report: Output[Artifact], config: dict) -> None:
    """Bring the reports of all triggers of a sweep together.

    Args:
        reports: One report per trigger.
        report: sweep.json, report.html, figures, and the report of each trigger.
        config: The whole configuration (SweepConfig).
    """
    from untrigger.stages import aggregation

    aggregation.run(reports=[part.path for part in reports], report=report.path, config=config)
