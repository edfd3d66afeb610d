"""How many nodes and pods a DAG becomes in Argo, which keeps at most 1 MiB of compressed nodes per workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """Nodes of the workflow, pods among them."""

    nodes: int = 0
    pods: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.nodes + other.nodes, self.pods + other.pods)

    def __mul__(self, times: int) -> Size:
        return Size(self.nodes * times, self.pods * times)


DRIVER = Size(2, 1)
"""KFP's pod that looks up the inputs, and the node that would try it again."""

AROUND = Size(2)
"""A DAG and the node that would try it again."""

STAGE = DRIVER + AROUND + Size(2, 1)
"""A driver; a DAG; in it the container and the node that would try that again."""

LOOP = AROUND + DRIVER + Size(1)
"""A DAG with a driver, and a group of its items."""

ITEM = AROUND + DRIVER + AROUND
"""What an item of a loop is beside the tasks inside it."""


def size_of(spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> Size:
    """The size of a compiled DAG's run with these parameters when nothing of it comes from the cache."""
    return AROUND + DRIVER + AROUND + _tasks(spec["root"], spec["components"], parameters)


def _tasks(part: Mapping[str, Any], components: Mapping[str, Any], parameters: Mapping[str, Any]) -> Size:
    return sum((_task(task, components, parameters) for task in part["dag"]["tasks"].values()), Size())


def _task(task: Mapping[str, Any], components: Mapping[str, Any], parameters: Mapping[str, Any]) -> Size:
    component = components[task["componentRef"]["name"]]
    if "executorLabel" in component:
        # What runs whatever happened is a hook, with a DAG of its own around it.
        return STAGE + (AROUND if task.get("triggerPolicy", {}).get("strategy") else Size())
    inside = _tasks(component, components, parameters)
    if "parameterIterator" not in task:
        return DRIVER + AROUND + inside
    # A loop runs over a parameter of the whole DAG, whose name is handed through.
    name = task["parameterIterator"]["items"]["inputParameter"].removeprefix("pipelinechannel--")
    return LOOP + (ITEM + inside) * len(parameters[name])
