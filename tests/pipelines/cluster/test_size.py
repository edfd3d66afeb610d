"""How many nodes and pods the DAGs become, held against what a real Argo made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tests.support.argo import Imitation
from tests.support.recordings import packed, recording
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments
from untrigger.pipelines.cluster.size import Size, size_of
from untrigger.profiles import CLUSTER_PACKING, config_for
from untrigger.settings.runs import DefenseConfig, SweepConfig


@pytest.mark.parametrize(("name", "nodes", "pods"), [("succeeded", 182, 49), ("sweep_of_two", 351, 93)])
def test_the_rule_gives_the_nodes_and_pods_that_were_recorded(name: str, nodes: int, pods: int) -> None:
    run = recording(name)
    assert size_of(next(yaml.safe_load_all(run.spec)), run.parameters) == Size(nodes, pods)
    assert len(run.nodes) == nodes and sum(node["type"] == "Pod" for node in run.nodes.values()) == pods


@pytest.mark.parametrize("name", ["succeeded", "cached", "sweep_of_two"])
def test_the_imitation_makes_the_workflow_that_was_recorded(name: str) -> None:
    run = recording(name)
    spec, platform = yaml.safe_load_all(run.spec)
    own = run.workflow["metadata"]["name"]
    cached = {"evaluation": "SUCCEEDED", "open-run": "SUCCEEDED", "close-run": "SUCCEEDED"}
    outcome = (lambda stage: cached.get(stage, "CACHED")) if name == "cached" else (lambda stage: "SUCCEEDED")
    root = run.v2beta1["runtime_config"]["pipeline_root"]
    began = datetime(2026, 11, 25, tzinfo=UTC)
    nodes = Imitation(spec, platform, run.parameters, run.run_id, own, root, outcome, began).build()
    made = {node["name"]: node for node in nodes.values()}
    assert made.keys() == run.nodes.keys()
    for path, real in run.nodes.items():
        for field in ("id", "displayName", "type", "templateName", "templateScope", "phase", "boundaryID", "message"):
            assert made[path].get(field) == real.get(field), (path, field)
        assert set(made[path].get("children", ())) <= nodes.keys()
        own_parameters, its = (_names(node) for node in (made[path], real))
        assert own_parameters == its, path
        optional = {"children", "outboundNodes", "progress", "resourcesDuration"}
        assert made[path].keys() - optional == real.keys() - optional, path
    assert packed(nodes).keys() == packed(run.nodes).keys(), "compressed above the same size"
    assert ("compressedNodes" in packed(nodes)) == ("compressedNodes" in run.workflow["status"])


def size(dag: str, profile: str, **changes: object) -> Size:
    """Of a compiled DAG as `submit` starts it."""
    spec = next(yaml.safe_load_all(COMPILED[dag].read_text()))
    kind: type[SweepConfig] | type[DefenseConfig] = SweepConfig if dag == "paper" else DefenseConfig
    return size_of(spec, pipeline_arguments(config_for(profile, {**CLUSTER_PACKING[profile], **changes}, kind)))


def test_what_is_submitted_takes_few_nodes_and_pods() -> None:
    tiny = size("defense", "tiny")
    assert tiny.nodes <= 106 and tiny.pods <= 30
    one, two = (size("paper", "paper", triggers=("binary:1", "binary:2")[:count]) for count in (1, 2))
    assert two.nodes - one.nodes <= 128


def _names(node: dict[str, Any]) -> set[str]:
    return {each["name"] for each in node.get("inputs", {}).get("parameters", ())}
