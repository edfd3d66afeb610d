"""Gather stairs: the generators of the fan-out become one staircase, the ensemble."""

from __future__ import annotations

from untrigger.stages.log import Log
from untrigger.stages.stage import InFolders, OutFolder, stage
from untrigger.staircase import gather_staircase


@stage("staircase")
def run(log: Log, *, generators: InFolders, trigger_staircase: OutFolder, gammas: list[float]) -> None:
    """Write the ensemble of the generators in all folders by rising beta, each with all that was found of it.

    `gammas` are the weights of the stairs by rising beta; an empty list means equal weights.
    """
    stairs = [stair for folder in generators for stair in sorted(folder.iterdir())]
    with log.run() as tracked:
        staircase = gather_staircase(stairs, tuple(gammas) or None, trigger_staircase)
        tracked.parameters({f"gamma.{b}": gamma for b, gamma in zip(staircase.betas, staircase.gammas, strict=True)})
