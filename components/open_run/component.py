"""The component of the stage `open_run`."""

from untrigger.components.stage_component import stage_component


@stage_component
def open_run(pipeline: str, config: dict, tracking: dict) -> None:
    """Create the tracking run that all other stages nest in.

    Args:
        pipeline: Name of the pipeline.
        config: The whole configuration (DefenseConfig), recorded as parameters.
        tracking: How the run appears in MLflow (TrackedAs): its name, experiment and links.
    """
    from untrigger.stages import open_run

    open_run.run(pipeline=pipeline, config=config, tracking=tracking)
