"""Close run: end the tracking run, whether the pipeline succeeded or failed."""

from __future__ import annotations

from untrigger.stages.log import Log
from untrigger.stages.stage import stage
from untrigger.tracking.records import close_parent

SUCCEEDED: dict[str, bool] = {
    "SUCCEEDED": True,
    "COMPLETE": True,
    "CACHED": True,
    "FAILED": False,
    "CANCELED": False,
}
"""What KFP calls the end of a pipeline. Version 2.16 may still say RUNNING, of one that has failed, too."""


@stage("close run", reusable=False)
def run(log: Log, *, state: str) -> None:
    """Mark the parent run as finished or failed, and nested runs that were left open as failed."""
    close_parent(SUCCEEDED.get(state))
