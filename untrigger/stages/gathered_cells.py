"""Gathered cells: what was found of one backdoor of a grid, in one folder."""

from __future__ import annotations

from untrigger.reports.grids import Planted, part_name
from untrigger.stages.log import Log
from untrigger.stages.reuse import link_folders
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage


@stage("gathered_cells")
def run(log: Log, *, cells: InFolders, backdoored: InFolder, found: OutFolder) -> None:
    """Write a folder with what was planted (Planted), and one for each cell (Cell)."""
    planted = Planted.load(backdoored)
    with log.run():
        planted.save(found / part_name(planted.attack, planted.seed))
        link_folders(cells, found)
