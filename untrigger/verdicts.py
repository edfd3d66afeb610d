"""The verdict on a model by its rank among clean references: how often a clean model would look as suspicious.

Each model comes with one statistic per search, the larger the more suspicious. What is compared is symmetric in all
models, so that a clean suspect, exchangeable with the references, is called backdoored in a share `level` of all cases
at most: conformal p-values (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, chapter 2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from untrigger.settings.base import Frozen

Statistics = Mapping[str, float]
"""Of one model: a number per search."""

Found = Literal["backdoor found", "nothing found", "not calibrated"]

ROUNDING = 1e-9
"""Room for the rounding of levels such as 0.05."""


class Verdict(Frozen):
    """What can be said of a model.

    ranks: its p-value in each search by itself; p_value: of all together, None without references; search: the one in
    which it stands out most; lead: how far it lies ahead of all references there; needed: the references that the level
    needs, where there are too few.
    """

    verdict: Found
    level: float
    p_value: float | None = None
    ranks: dict[str, float] = {}
    search: str | None = None
    lead: float = 0.0
    references: int = 0
    needed: int | None = None


def references_needed(level: float) -> int:
    """With fewer references no p-value can reach `level`."""
    return max(1, math.ceil(1 / level - ROUNDING) - 1)


def verdict_on(suspect: Statistics, references: Sequence[Statistics], level: float) -> Verdict:
    """The verdict at `level` on the model with these statistics; all must have those of the same searches.

    p_value: the rank of the suspect's suspicion among those of all, where that of each model is found by leaving it
    out. Ties count against significance.
    """
    needed = references_needed(level)
    if not references:
        return Verdict(verdict="not calibrated", level=level, needed=needed)
    models = [suspect, *references]
    suspicions = [_suspicion(number, models) for number in range(len(models))]
    p_value = sum(other <= suspicions[0] for other in suspicions) / len(models)
    ranks = {search: _rank(0, models, search) for search in suspect}
    search = min(suspect, key=lambda name: (ranks[name], -_lead(0, models, name)))
    too_few = len(references) < needed
    found = p_value <= level + ROUNDING
    return Verdict(
        verdict="not calibrated" if too_few else "backdoor found" if found else "nothing found",
        level=level,
        p_value=p_value,
        ranks=ranks,
        search=search,
        lead=_lead(0, models, search),
        references=len(references),
        needed=needed if too_few else None,
    )


def _suspicion(number: int, models: Sequence[Statistics]) -> tuple[float, float]:
    """The smallest p-value of a model over all searches, then minus its lead: the smaller, the more suspicious.

    Among few models several are the first in one search or another. The lead, the distance to the next one, tells them
    apart.
    """
    smallest = min(_rank(number, models, search) for search in models[number])
    return smallest, -max(_lead(number, models, search) for search in models[number])


def _rank(number: int, models: Sequence[Statistics], search: str) -> float:
    """p_s = (1 + #{others >= it}) / (all of them)."""
    return sum(model[search] >= models[number][search] for model in models) / len(models)


def _lead(number: int, models: Sequence[Statistics], search: str) -> float:
    """How far it lies ahead of all others; 0 where it is not the first."""
    others = max(model[search] for other, model in enumerate(models) if other != number)
    return max(0.0, models[number][search] - others)
