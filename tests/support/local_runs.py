"""Pipelines run on this machine, each stage a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from untrigger.pipelines.local.protocol import RunOptions, local_run
from untrigger.settings.pipelines import RunConfig


def executed(config: RunConfig, output: Path) -> Any:
    """The results of a run that was started anew, whatever an earlier one left in the environment."""
    for name in ("KFP_RUN_ID", "MLFLOW_TRACKING_URI", "UNTRIGGER_ARTIFACT_LOCATION"):
        os.environ.pop(name, None)
    with local_run(config, RunOptions(output)) as run:
        return run.execute()
