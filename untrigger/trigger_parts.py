"""The parts that the triggers of a classifier fall into: one flow for each finds what a single flow would give up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from untrigger.judge import Judge
from untrigger.settings.methods import StrongestLeftSettings
from untrigger.strongest_triggers import find_strongest

SEARCH = StrongestLeftSettings(restarts=32, steps=60, images_per_step=8)
"""From so many random starts a part with a tenth of the volume is missed three times in a hundred."""

STRONG = 0.8
"""Share of the highest F that a found trigger must reach to count."""

LINKED = 0.5
"""Two triggers are of one part when F on the way between them stays above this share of their own."""

BETWEEN = (0.25, 0.5, 0.75)
"""Where on the way it is looked at."""

MOST_PARTS = 4


def find_parts(judge: Judge, *, rng: torch.Generator, on_progress: Callable[[int, int], None] | None = None) -> Tensor:
    """The middle of each part, float (parts, d), the part that most searches end in first.

    Triggers are reversed from random starts; two are linked when all triggers on the straight line between them are
    triggers, too, and what hangs together is a part. Each point of the box belongs to the part with the nearest middle,
    so that parts cover all triggers however they were found. `on_progress` gets steps done and all.
    """
    found = find_strongest(judge, SEARCH, rng=rng, on_progress=on_progress)
    strong = found.strengths >= STRONG * found.strongest_F
    triggers, strengths = found.triggers[strong].flatten(1), found.strengths[strong]
    parts = _connected(_linked(judge, triggers, strengths))
    return torch.stack([triggers[list(part)].mean(0) for part in parts[:MOST_PARTS]])


def _linked(judge: Judge, triggers: Tensor, strengths: Tensor) -> Tensor:
    """Which of the triggers are linked directly, bool (n, n)."""
    one, other = torch.triu_indices(len(triggers), len(triggers), offset=1, device=triggers.device)
    lowest = torch.minimum(strengths[one], strengths[other])
    for share in BETWEEN:
        between = judge.rough(triggers[one].lerp(triggers[other], share))
        lowest = torch.where(between < LINKED * lowest, -torch.inf, lowest)
    linked = torch.eye(len(triggers), dtype=torch.bool)
    linked[one.cpu(), other.cpu()] = linked[other.cpu(), one.cpu()] = (lowest > 0).cpu()
    return linked


def _connected(linked: Tensor) -> list[set[int]]:
    """The groups that hang together, the largest first."""
    groups: list[set[int]] = []
    for number, row in enumerate(linked.tolist()):
        mine = {number, *(other for other, near in enumerate(row) if near)}
        touched = [group for group in groups if group & mine]
        groups = [group for group in groups if not group & mine] + [mine.union(*touched)]
    return sorted(groups, key=lambda group: (-len(group), min(group)))
