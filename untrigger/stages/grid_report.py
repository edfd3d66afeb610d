"""Grid report: all backdoors of a grid and what each method left of them, in tables."""

from __future__ import annotations

from typing import Any

from untrigger.classifiers import load_classifier
from untrigger.grids.backdoors import gathered_grid
from untrigger.reports.grid_tables import WRITTEN, write_grid
from untrigger.reports.grids import CELLS
from untrigger.settings.grids import GridConfig
from untrigger.stages.log import Log
from untrigger.stages.reuse import link_folders
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage


@stage("grid_report")
def run(log: Log, *, found: InFolders, clean_classifier: InFolder, report: OutFolder, config: dict[str, Any]) -> None:
    """Write what `untrigger grid` writes, and below `cells` what that is made of; config: of the grid (GridConfig)."""
    with log.run() as tracked:
        link_folders(found, report / CELLS)
        result = gathered_grid(report / CELLS, GridConfig.of(config), load_classifier(clean_classifier))
        write_grid(report, result)
        for name in WRITTEN:
            log.summary_run(tracked).files(report / name)
