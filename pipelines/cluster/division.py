"""A sweep divided into workflows that Argo can keep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.settings.runs import DefenseConfig, SweepConfig
from untrigger.settings.tracked import TrackedAs

MOST_NODES = 1000
"""Argo keeps 1 MiB of a workflow's compressed nodes, about 860 bytes each."""


def divided(config: DefenseConfig | SweepConfig, spec: Mapping[str, Any]) -> list[DefenseConfig | SweepConfig]:
    """The configuration itself, or one for each part: equal but for the triggers, in their order.

    spec: the compiled DAG. As few parts as keep each within MOST_NODES, of nearly the same length; a single trigger
    is not divided.
    """
    if not isinstance(config, SweepConfig):
        return [config]
    arguments, triggers = pipeline_arguments(config), config.triggers
    none, one = (size_of(spec, {**arguments, "triggers": triggers[:count]}).nodes for count in (0, 1))
    parts = -(-len(triggers) // max(1, (MOST_NODES - none) // (one - none)))
    bounds = [len(triggers) * number // parts for number in range(parts + 1)]
    return [_over(config, triggers[start:end]) for start, end in itertools.pairwise(bounds)]


def part_arguments(
    config: DefenseConfig | SweepConfig, part: DefenseConfig | SweepConfig, tracking: TrackedAs
) -> dict[str, Any]:
    """The parameters of the DAG for a part: those of the whole, so that parts share what they can from KFP's cache."""
    own = pipeline_arguments(part, tracking)
    return {
        **pipeline_arguments(config),
        **{name: own[name] for name in ("config", "tracking", "triggers") if name in own},
    }


def _over(config: SweepConfig, triggers: tuple[str, ...]) -> SweepConfig:
    panels = tuple(name for name in config.panels if name in triggers)
    return config.model_copy(update={"triggers": triggers, "panels": panels})
