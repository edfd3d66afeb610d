"""Open run: create the tracking run that all other stages nest in, before any of them runs."""

from __future__ import annotations

from typing import Any

from untrigger.settings.runs import DefenseConfig, SweepConfig
from untrigger.stages.log import Log
from untrigger.stages.stage import stage
from untrigger.tracking.records import open_parent


@stage("open_run", reusable=False, requires_tracking=True)
def run(log: Log, *, pipeline: str, config: dict[str, Any]) -> None:
    """Create the parent run of this pipeline run in MLflow, with the whole configuration as its parameters."""
    settings = SweepConfig.of(config) if "triggers" in config else DefenseConfig.of(config)
    tags = {"dataset": settings.dataset, "trigger": ",".join(settings.planted())}
    open_parent(f"{pipeline} {settings.dataset} seed={settings.seed}", settings.record(), tags)
