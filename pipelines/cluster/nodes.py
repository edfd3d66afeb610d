"""Whether a cluster's nodes can hold the stages of a DAG, as Kubernetes' scheduler would see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from untrigger.stages.identities import STAGES

Amounts = Mapping[str, Decimal]
"""Of each resource by its name: cpu in cores, memory in bytes, GPUs by their type."""

_TITLES = {f"exec-{identity.task}": identity.title for identity in STAGES.values()}


@dataclass(frozen=True)
class Demand:
    """What the pod of a stage asks for, and `shown` for a person."""

    title: str
    amounts: Amounts
    shown: str
    selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Node:
    """What a node has for pods, what of it is free, and whom it admits."""

    allocatable: Amounts
    free: Amounts
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]


def demands(documents: Sequence[dict[str, Any]]) -> list[Demand]:
    """What each stage of a compiled DAG (its spec and its platform spec) asks for."""
    spec, platform = documents
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return [
        _demand(_TITLES.get(name, name), executor["container"].get("resources", {}), pods.get(name, {}))
        for name, executor in spec["deploymentSpec"]["executors"].items()
    ]


def placeable(asked: Iterable[Demand], nodes: Sequence[Node]) -> tuple[list[str], list[str]]:
    """The stages that no node could ever hold, and those that one can hold only when others have ended."""
    never, later = [], []
    for demand in asked:
        admitting = [node for node in nodes if _admits(node, demand)]
        if not any(_holds(node.allocatable, demand.amounts) for node in admitting):
            never.append(f"{demand.title} ({demand.shown})")
        elif not any(_holds(node.free, demand.amounts) for node in admitting):
            later.append(f"{demand.title} ({demand.shown})")
    return never, later


def amounts(quantities: Mapping[str, str] | None) -> dict[str, Decimal]:
    """From Kubernetes' quantities."""
    from kubernetes.utils import parse_quantity

    return {name: parse_quantity(value) for name, value in (quantities or {}).items()}


def _demand(title: str, resources: Mapping[str, Any], pod: Mapping[str, Any]) -> Demand:
    asked = {
        name: resources[key]
        for name, key in (("cpu", "resourceCpuRequest"), ("memory", "resourceMemoryRequest"))
        if key in resources
    }
    if accelerator := resources.get("accelerator"):
        asked[accelerator["resourceType"]] = accelerator["resourceCount"]
    selector = pod.get("nodeSelector", {}).get("labels", {})
    shown = [f"{name} {value}" for name, value in asked.items()] + [
        f"node {key}={value}" for key, value in selector.items()
    ]
    return Demand(title, amounts(asked), ", ".join(shown), selector, pod.get("tolerations", []))


def _holds(has: Amounts, asked: Amounts) -> bool:
    return all(has.get(name, Decimal(0)) >= amount for name, amount in asked.items())


def _admits(node: Node, demand: Demand) -> bool:
    if any(node.labels.get(key) != value for key, value in demand.selector.items()):
        return False
    hard = [taint for taint in node.taints if taint["effect"] in ("NoSchedule", "NoExecute")]
    return all(any(_tolerates(toleration, taint) for toleration in demand.tolerations) for taint in hard)


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or "")
