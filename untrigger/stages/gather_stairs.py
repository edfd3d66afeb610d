"""Gather stairs: the generators of the fan-out become one staircase, the ensemble."""

from __future__ import annotations

import shutil

from untrigger.generators import load_generator
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolders, OutFolder, stage
from untrigger.staircase import build_staircase, save_staircase


@stage("staircase")
def run(log: Log, *, generators: InFolders, trigger_staircase: OutFolder, gammas: list[float]) -> None:
    """Write the ensemble of the generators in all folders by rising beta, each with its curves and its measurement.

    `gammas` are the weights of the stairs by rising beta; an empty list means equal weights.
    """
    stairs = {stair: load_generator(stair) for folder in generators for stair in sorted(folder.iterdir())}
    with log.run() as tracked:
        staircase = build_staircase(list(stairs.values()), tuple(gammas) or None)
        save_staircase(staircase, trigger_staircase)
        for folder, (_, beta) in stairs.items():
            for name in ("curves.json", "measurement.json"):
                shutil.copyfile(folder / name, trigger_staircase / f"stair-{staircase.betas.index(beta)}" / name)
        tracked.parameters({f"gamma.{b}": gamma for b, gamma in zip(staircase.betas, staircase.gammas, strict=True)})
