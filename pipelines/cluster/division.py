"""A sweep over triggers, a scan of many models or a grid of attacks, divided into workflows that Argo can keep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.pipelines.cluster.size import size_of
from untrigger.settings.grids import GridRunConfig
from untrigger.settings.model_runs import ScanRunConfig
from untrigger.settings.pipelines import RunConfig
from untrigger.settings.runs import SweepConfig
from untrigger.settings.tracked import TrackedAs

MOST_NODES = 1000
"""Argo keeps 1 MiB of a workflow's compressed nodes, about 860 bytes each."""

OWN = ("config", "tracking", "triggers", "model_plan", "backdoor_plan", "grid_config")
"""The parameters that are a part's own."""


def divided(config: RunConfig, spec: Mapping[str, Any]) -> list[RunConfig]:
    """The configuration itself, or one for each part: equal but for the triggers, models or attacks, in their order.

    spec: the compiled DAG. As few parts as keep each within MOST_NODES, of nearly the same length; what is about a
    single trigger, model or attack, or trains references, is not divided.
    """
    listed = _listed(config)
    if listed is None:
        return [config]
    setting, looped, tasks = listed
    items, arguments = getattr(config, setting), pipeline_arguments(config)
    none, one = (size_of(spec, {**arguments, looped: arguments[looped][:count]}).nodes for count in (0, 1))
    fitting = max(1, (MOST_NODES - none) // (one - none))
    parts = -(-len(items) // max(1, int(fitting / tasks)))
    bounds = [len(items) * number // parts for number in range(parts + 1)]
    return [_over(config, setting, items[start:end]) for start, end in itertools.pairwise(bounds)]


def part_arguments(config: RunConfig, part: RunConfig, tracking: TrackedAs) -> dict[str, Any]:
    """The parameters of the DAG for a part: those of the whole, so that parts share what they can from KFP's cache."""
    own = pipeline_arguments(part, tracking)
    return {**pipeline_arguments(config), **{name: own[name] for name in OWN if name in own}}


def _listed(config: RunConfig) -> tuple[str, str, Fraction] | None:
    """The setting that lists what a run is divided by, the loop over that, and the loop's items for each of them."""
    if isinstance(config, SweepConfig):
        return "triggers", "triggers", Fraction(1)
    if isinstance(config, ScanRunConfig):
        return "models", "model_plan", Fraction(1, config.models_per_task)
    if isinstance(config, GridRunConfig):
        return "attacks", "backdoor_plan", Fraction(config.seeds)
    return None


def _over(config: RunConfig, setting: str, items: tuple[str, ...]) -> RunConfig:
    update = {setting: items}
    if isinstance(config, SweepConfig):
        update["panels"] = tuple(name for name in config.panels if name in items)
    return config.model_copy(update=update)
