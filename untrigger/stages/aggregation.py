"""Aggregation: the reports of all triggers of a sweep, brought together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from untrigger.reports.sweep import SweepResults
from untrigger.reports.sweep_report import bring_together
from untrigger.settings.runs import SweepConfig
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolders, OutFolder, stage
from untrigger.tracking.records import TrackedRun


@stage("aggregation")
def run(log: Log, *, reports: InFolders, report: OutFolder, config: dict[str, Any]) -> None:
    """Write `sweep.json`, `report.html`, `figures/*.png`, and the report of each trigger below `triggers/`."""
    with log.run() as tracked:
        found = bring_together(reports, report, SweepConfig.of(config))
        _track(log.summary_run(tracked), report, found)


def _track(run: TrackedRun, report: Path, found: SweepResults) -> None:
    for line in found.summary:
        name = f"{line.group}.{line.method.replace('=', '_')}"
        rates = {
            "mean": line.mean,
            "std": line.std,
            "worst": line.worst,
            "worst_of_seeds": line.worst_of_seeds,
            "strongest_left": line.strongest_left,
        }
        run.metrics({f"{name}.{rate}": value for rate, value in rates.items() if value is not None})
    run.files(report / "figures", "figures")
    run.files(report / "report.html")
    run.files(report / SweepResults.FILE)
