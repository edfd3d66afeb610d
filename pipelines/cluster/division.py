"""A sweep over triggers, or a scan of many models, divided into workflows that Argo can keep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.settings.model_runs import ScanRunConfig
from untrigger.settings.pipelines import RunConfig
from untrigger.settings.runs import SweepConfig
from untrigger.settings.tracked import TrackedAs

MOST_NODES = 1000
"""Argo keeps 1 MiB of a workflow's compressed nodes, about 860 bytes each."""

OWN = ("config", "tracking", "triggers", "model_plan")
"""The parameters that are a part's own."""


def divided(config: RunConfig, spec: Mapping[str, Any]) -> list[RunConfig]:
    """The configuration itself, or one for each part: equal but for the triggers or models, in their order.

    spec: the compiled DAG. As few parts as keep each within MOST_NODES, of nearly the same length; what is about a
    single trigger or model, or trains references, is not divided.
    """
    if not isinstance(config, SweepConfig | ScanRunConfig):
        return [config]
    items, per_task = (
        (config.triggers, 1) if isinstance(config, SweepConfig) else (config.models, config.models_per_task)
    )
    arguments = pipeline_arguments(config)
    looped = "triggers" if isinstance(config, SweepConfig) else "model_plan"
    none, one = (size_of(spec, {**arguments, looped: arguments[looped][:count]}).nodes for count in (0, 1))
    parts = -(-len(items) // (per_task * max(1, (MOST_NODES - none) // (one - none))))
    bounds = [len(items) * number // parts for number in range(parts + 1)]
    return [_over(config, items[start:end]) for start, end in itertools.pairwise(bounds)]


def part_arguments(config: RunConfig, part: RunConfig, tracking: TrackedAs) -> dict[str, Any]:
    """The parameters of the DAG for a part: those of the whole, so that parts share what they can from KFP's cache."""
    own = pipeline_arguments(part, tracking)
    return {**pipeline_arguments(config), **{name: own[name] for name in OWN if name in own}}


def _over(config: SweepConfig | ScanRunConfig, items: tuple[str, ...]) -> SweepConfig | ScanRunConfig:
    if isinstance(config, ScanRunConfig):
        return config.model_copy(update={"models": items})
    panels = tuple(name for name in config.panels if name in items)
    return config.model_copy(update={"triggers": items, "panels": panels})
