"""Does the sampler of the truth find volumes that are known?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from untrigger.seeding import derived_rng
from untrigger.settings.methods import TruthSettings
from untrigger.truth import find_truth

DIMENSIONS = (27, 9)
HALF_WIDTH, RADIUS, FAR_RADIUS = 0.2, 0.3, 0.22


@dataclass(frozen=True)
class KnownSet:
    """A set {x : F(x) >= beta} in [0, 1]^d whose volume has a formula; F is its own rough guess."""

    name: str
    log_volume: float
    distance: Callable[[Tensor], Tensor]
    """Of points, float (n, d), to the middle of the set, in units in which the set ends at 1."""

    BETA = 0.5

    def guess_near(self, triggers: Tensor) -> Callable[[Tensor], Tensor]:
        """F itself."""
        return partial(self.strengths_above, level=0)

    def strengths_above(self, triggers: Tensor, level: float) -> Tensor:
        """F, float64 (n,), whatever the level: 1 in the middle of the set, `BETA` at its edge."""
        return self.BETA ** self.distance(triggers.double())


def known_sets(dimensions: int) -> list[KnownSet]:
    """A box, a ball, and two balls in opposite corners, with room around each."""
    near, far = (torch.full((dimensions,), place, dtype=torch.float64) for place in (0.25, 0.75))
    return [
        KnownSet("box", dimensions * math.log(2 * HALF_WIDTH), lambda x: (x - 0.4).abs().amax(1) / HALF_WIDTH),
        KnownSet("ball", _ball(dimensions, RADIUS), lambda x: (x - 0.5).norm(dim=1) / RADIUS),
        KnownSet(
            "two balls",
            math.log(2) + _ball(dimensions, FAR_RADIUS),
            lambda x: torch.minimum((x - near).norm(dim=1), (x - far).norm(dim=1)) / FAR_RADIUS,
        ),
    ]


def measure_known_volumes(seed: int, json_file: Path | None) -> None:
    """Print and write the log-volume of each known set, as found and as it is."""
    settings = TruthSettings()
    table = Table(title=f"log-volume in nats; {settings.repeats} repeats of {settings.walkers} walkers")
    for name in ("set", "dimensions", "exact", "estimate", "error (95 %)"):
        table.add_column(name, justify="left" if name == "set" else "right")
    rows = []
    for dimensions in DIMENSIONS:
        for known in known_sets(dimensions):
            rngs = [derived_rng(seed, known.name, dimensions, repeat) for repeat in range(settings.repeats)]
            (truth,) = find_truth(known, dimensions, [KnownSet.BETA], settings, rngs=rngs)
            rows.append(
                {
                    "set": known.name,
                    "dimensions": dimensions,
                    "exact": known.log_volume,
                    "estimate": truth.log_volume,
                    "error95": truth.error95,
                }
            )
            numbers = (known.log_volume, truth.log_volume, truth.error95)
            table.add_row(known.name, f"{dimensions}", *(f"{value:.2f}" for value in numbers))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def _ball(dimensions: int, radius: float) -> float:
    """The log-volume of a ball."""
    half = dimensions / 2
    return half * math.log(math.pi) - math.lgamma(half + 1) + dimensions * math.log(radius)
