"""Close run: end the tracking run, whether the pipeline succeeded or failed."""

from __future__ import annotations

from untrigger.stage import Log, stage
from untrigger.tracking import close_parent


@stage("close run", reusable=False)
def run(log: Log, *, succeeded: bool) -> None:
    """Mark the parent run as finished or failed, and nested runs that were left open as failed."""
    close_parent(succeeded)
