"""Answers of a real Kubeflow Pipelines (tests/recordings), and the same runs as they were at an earlier moment."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recordings" / "kfp-2.17.0"

RUNS = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.v1beta1.json.gz"))
"""The names of the recorded runs."""


def load(name: str) -> Any:
    """What a file of the recordings holds."""
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))


@dataclass(frozen=True)
class Recording:
    """A recorded run: what both APIs answered after its end, and the workflow's nodes by name."""

    name: str
    v1beta1: dict[str, Any]
    v2beta1: dict[str, Any]
    workflow: dict[str, Any]
    nodes: dict[str, dict[str, Any]]

    @property
    def run_id(self) -> str:
        return str(self.v2beta1["run_id"])

    @property
    def spec(self) -> str:
        """The compiled DAG that ran, as YAML."""
        return str(self.v1beta1["run"]["pipeline_spec"]["pipeline_manifest"])

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.v2beta1["runtime_config"]["parameters"])

    def moments(self) -> list[datetime]:
        """All moments at which a node began or ended."""
        times = {node.get(name) for node in self.nodes.values() for name in ("startedAt", "finishedAt")}
        return [datetime.fromisoformat(time) for time in sorted(time for time in times if time)]

    def manifest(self, moment: datetime | None = None) -> str:
        """The workflow as it was at a moment, rebuilt from when its nodes began and ended; else as it was recorded."""
        if moment is None:
            return str(self.v1beta1["pipeline_runtime"]["workflow_manifest"])
        workflow = copy.deepcopy(self.workflow)
        nodes = {n["id"]: _earlier(n, moment) for n in self.nodes.values() if _time(n["startedAt"]) <= moment}
        workflow["status"] = {**workflow["status"], "phase": "Running", **packed(nodes)}
        workflow["status"].pop("nodes" if "compressedNodes" in packed(nodes) else "compressedNodes", None)
        return json.dumps(workflow)

    def answers(self, moment: datetime | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the newer and the older API answer at a moment, else at the end."""
        if moment is None:
            return self.v2beta1, self.v1beta1
        v1beta1 = {**self.v1beta1, "pipeline_runtime": {"workflow_manifest": self.manifest(moment)}}
        return {**self.v2beta1, "state": "RUNNING", "state_history": self.v2beta1["state_history"][:2]}, v1beta1


@cache
def recording(name: str) -> Recording:
    v1beta1, v2beta1 = load(f"{name}.v1beta1"), load(f"{name}.v2beta1")
    workflow = json.loads(v1beta1["pipeline_runtime"]["workflow_manifest"])
    status = workflow["status"]
    packed_nodes = status.get("compressedNodes")
    nodes = json.loads(gzip.decompress(base64.b64decode(packed_nodes))) if packed_nodes else status["nodes"]
    return Recording(name, v1beta1, v2beta1, workflow, {node["name"]: node for node in nodes.values()})


def packed(nodes: dict[str, Any]) -> dict[str, Any]:
    """The nodes as Argo puts them into a workflow's status: as they are, or compressed from 1 MiB on."""
    text = json.dumps(nodes, separators=(",", ":")).encode()
    if len(text) < 2**20:
        return {"nodes": nodes}
    return {"compressedNodes": base64.b64encode(gzip.compress(text)).decode()}


def _earlier(node: dict[str, Any], moment: datetime) -> dict[str, Any]:
    if node.get("finishedAt") and _time(node["finishedAt"]) <= moment:
        return node
    left = {key: value for key, value in node.items() if key not in ("finishedAt", "message", "outputs")}
    return {
        **left,
        "phase": "Pending" if node["phase"] == "Pending" else "Running",
        **({"message": node["message"]} if node["phase"] == "Pending" else {}),
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
