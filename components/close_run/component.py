"""The component of the stage `close_run`."""

from kfp.dsl import PipelineTaskFinalStatus

from untrigger.components.stage_component import stage_component


@stage_component("close_run")
def close_run(status: PipelineTaskFinalStatus) -> None:
    """End the tracking run, whether the pipeline succeeded or failed.

    Args:
        status: How the pipeline ended, filled in by KFP.
    """
    from untrigger.stages import close_run

    close_run.run(state=status.state)
