"""Open run: create the tracking run that all other stages nest in, before any of them runs."""

from __future__ import annotations

import os
from typing import Any

from untrigger.settings import tracked
from untrigger.settings.grids import GridRunConfig
from untrigger.settings.pipelines import CONFIGS
from untrigger.settings.plans import lines
from untrigger.settings.runs import DefenseConfig, SweepConfig
from untrigger.settings.tracked import TrackedAs
from untrigger.stages.log import Log
from untrigger.stages.stage import stage
from untrigger.tracking.records import RUN_ID, open_parent


@stage("open_run", reusable=False, requires_tracking=True)
def run(log: Log, *, pipeline: str, config: dict[str, Any], tracking: TrackedAs) -> None:
    """Create the parent run of this pipeline run in MLflow, with the whole configuration as its parameters.

    Its tags are the dataset, the attack and the triggers, the models, or the attacks, and, as `untrigger.NAME`, the
    links. A part of a divided run nests in one run for all parts.
    """
    settings = CONFIGS[pipeline].of(config)
    run_id = os.environ.get(RUN_ID, "")
    links = {f"untrigger.{name}": link.replace(tracked.RUN_ID, run_id) for name, link in tracking.links.items()}
    if isinstance(settings, DefenseConfig | SweepConfig):
        about = {"attack": settings.attack.name, "trigger": ",".join(settings.planted())}
    elif isinstance(settings, GridRunConfig):
        about = {"attacks": ",".join(settings.attacks)}
    else:
        about = {"model": lines(name for kind, name in settings.inputs() if kind == "model")}
    open_parent(
        tracking.name or f"{pipeline} {settings.dataset} seed={settings.seed}",
        settings.record(),
        {"dataset": settings.dataset, **about, **links},
        experiment=tracking.experiment,
        sweep=tracking.sweep.record() if tracking.sweep else None,
    )
