"""The component of the stage `close_run`."""

from kfp.dsl import PipelineTaskFinalStatus

from untrigger.components.stage_component import stage_component


@stage_component
def close_run(status: PipelineTaskFinalStatus) -> None:
    """End the tracking run, whether the pipeline succeeded or failed.

    Args:
        status: How the pipeline ended, filled in by KFP.
    """
    from untrigger.stages import close_run

    # Of a pipeline that has failed, version 2.16 may still say RUNNING: then nobody can tell.
    ends = {"SUCCEEDED": True, "COMPLETE": True, "CACHED": True, "FAILED": False, "CANCELED": False}
    close_run.run(succeeded=ends.get(status.state))
