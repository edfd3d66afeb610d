"""Gathered cells: what was found of one backdoor of a grid, in one folder."""

from __future__ import annotations

from untrigger.reports.grids import Planted, part_name
from untrigger.stages.log import Log
from untrigger.stages.reuse import link_folders
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage


@stage("gathered_cells")
def run(log: Log, *, cells: InFolders, backdoored: InFolder, found: OutFolder, attack: str, seed: int) -> None:
    """Write a folder with what was planted (Planted), and one for each cell (Cell).

    attack, seed: which backdoor of the grid.
    """
    with log.run():
        Planted.load(backdoored).save(found / part_name(attack, seed))
        link_folders(cells, found)
