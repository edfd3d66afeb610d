"""Close run: end the tracking run, whether the pipeline succeeded or failed."""

from __future__ import annotations

from untrigger.stages.log import Log
from untrigger.stages.stage import stage
from untrigger.tracking.records import close_parent


@stage("close_run", reusable=False)
def run(log: Log, *, succeeded: bool | None) -> None:
    """Mark the parent run as finished or failed, and nested runs that were left open as failed.

    `succeeded`: how the pipeline ended; None where nobody can tell.
    """
    close_parent(succeeded)
