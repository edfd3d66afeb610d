"""The workflow that KFP 2.17 and Argo 4 make of a compiled DAG, node by node, as the recordings have it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

PHASES = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "RUNNING": "Running", "PENDING": "Pending"}
ATTEMPT = {"retried": True}
EXECUTOR = "metadata-0-1-retry-system-container-executor"
CONTAINER = "metadata-0-1-retry-system-container-impl"

Outcome = Callable[[str], str | None]
"""From the name of a stage's task to its state (CACHED beside those of KFP), None where it has not begun.

It is asked once for each stage, in the order of the compiled DAG and of the items of its loops."""


@dataclass
class Imitation:
    """A workflow in the making."""

    spec: dict[str, Any]
    platform: dict[str, Any]
    parameters: Mapping[str, Any]
    run_id: str
    name: str
    root: str
    outcome: Outcome
    began: datetime
    messages: Mapping[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: int = 0

    def build(self) -> dict[str, dict[str, Any]]:
        """The nodes by id."""
        top = self._retried(self.name, "entrypoint", "", {})
        self._driver(f"{top}.root-driver", "system-dag-driver", top, self._dag_inputs(self.spec["root"], {}, "-1"), {})
        self._tasks(self._retried(f"{top}.root", "root", top, {"parent-dag-id": "1"}), self.spec["root"])
        for node in self.nodes.values():
            inside = [other for other in self.nodes.values() if other.get("boundaryID") == node["id"]]
            attempts = [
                other for name, other in self.nodes.items() if re.fullmatch(re.escape(node["name"]) + r"\(\d+\)", name)
            ]
            for part in inside if node["type"] == "DAG" else attempts:
                node.setdefault("children", []).append(part["id"])
        return {node["id"]: node for node in self.nodes.values()}

    def _tasks(self, path: str, part: Mapping[str, Any]) -> None:
        for name, task in part["dag"]["tasks"].items():
            component = self.spec["components"][task["componentRef"]["name"]]
            template = task["componentRef"]["name"]
            if "executorLabel" in component:
                inside = path
                if task.get("triggerPolicy", {}).get("strategy"):
                    hook = f"{path}.{task['dependentTasks'][0]}.onExit"
                    inside = self._retried(hook, f"exit-hook-root-{name}", path, {"parent-dag-id": "1"}, hooked=True)
                self._stage(f"{inside}.{name}", name, task, component, inside)
            elif "parameterIterator" in task:
                self._loop(f"{path}.{name}", template, task, component, path)
            else:
                self._driver(
                    f"{path}.{name}-driver", "system-dag-driver", path, self._dag_inputs(component, task, "-1"), {}
                )
                inner = self._retried(f"{path}.{name}", template, path, {"parent-dag-id": "2"})
                self._tasks(inner, component)

    def _loop(self, loop: str, template: str, task: dict[str, Any], component: dict[str, Any], path: str) -> None:
        items = task["parameterIterator"]["items"]["inputParameter"].removeprefix("pipelinechannel--")
        name = loop.rpartition(".")[2]
        around = self._retried(loop, f"{template}-{name}-iterator", path, {"parent-dag-id": "2"})
        inputs = self._dag_inputs(component, task, "-1")
        self._driver(f"{around}.iteration-driver", "system-dag-driver", around, inputs, {})
        iteration = f"{template}-iteration"
        self._node(f"{around}.iteration-iterations", "TaskGroup", iteration, around, "Succeeded", nodeFlag={})
        for number in range(len(self.parameters[items])):
            one = f"{around}.iteration-iterations({number}:{number})"
            each = self._retried(one, iteration, around, {"parent-dag-id": "2", "iteration-index": str(number)})
            inputs = self._dag_inputs(component, task, str(number))
            self._driver(f"{each}.iteration-item-driver", "system-dag-driver", each, inputs, {})
            self._tasks(self._retried(f"{each}.iteration-item", template, each, {"parent-dag-id": "2"}), component)

    def _stage(self, path: str, name: str, task: dict[str, Any], component: dict[str, Any], boundary: str) -> None:
        state = self.outcome(name)
        if state is None:
            return
        cached = state == "CACHED"
        patch = "" if cached else self._pod_spec(name, component)
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        platform = self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
        inputs = {
            "component": json.dumps(component),
            "task": json.dumps(task),
            "container": json.dumps(container),
            "task-name": name,
            "parent-dag-id": "2",
            "iteration-index": "-1",
            "kubernetes-config": json.dumps(platform.get("executors", {}).get(component["executorLabel"], {})),
        }
        outputs = {"pod-spec-patch": patch, "cached-decision": str(cached).lower(), "condition": "nil"}
        self._driver(f"{path}-driver", "system-container-driver", boundary, inputs, outputs)
        given = {
            "pod-spec-patch": patch,
            "cached-decision": str(cached).lower(),
            **dict.fromkeys(("pod-metadata-label-key", "pod-metadata-label-val", "retry-max-count"), "2"),
            **dict.fromkeys(("retry-backoff-duration", "retry-backoff-factor", "retry-backoff-max-duration"), "60"),
        }
        phase = "Succeeded" if cached else "Running" if state == "PENDING" else PHASES[state]
        around = self._retried(path, EXECUTOR, boundary, given, phase=phase)
        if cached:
            told = "when 'true != true' evaluated false"
            self._node(f"{around}.executor", "Skipped", CONTAINER, around, "Skipped", message=told, nodeFlag={})
            return
        del given["cached-decision"]
        code = {"SUCCEEDED": "0", "FAILED": "1"}.get(state)
        message = self.messages.get(name, "main: Error (exit code 1)" if state == "FAILED" else "")
        more: dict[str, Any] = {"inputs": _parameters(given), **({"outputs": {"exitCode": code}} if code else {})}
        if message:
            more["message"] = message
        executor = f"{around}.executor"
        self._node(executor, "Retry", CONTAINER, around, phase, **more)
        self._node(f"{executor}(0)", "Pod", CONTAINER, around, PHASES[state], nodeFlag=ATTEMPT, **_on_host(more))

    def _pod_spec(self, name: str, component: dict[str, Any]) -> str:
        """What KFP's driver asks for: the launcher's command, with where inputs come from and outputs go."""
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        place = (
            f"{self.root}/{self.spec['pipelineInfo']['name']}/{self.run_id}/{name}/{_hash(name + str(len(self.nodes)))}"
        )
        session = json.dumps(
            {"Provider": "s3", "Params": dict.fromkeys(["accessKeyKey", "disableSSL", "endpoint", "region"], "x" * 40)}
        )
        artifacts = {
            key: {"artifacts": [{"uri": f"{place}/{key}", "metadata": {"store_session_info": session * 2}}]}
            for key in component.get("inputDefinitions", {}).get("artifacts", {})
        }
        outputs = {
            key: {"artifacts": [{"name": key, "uri": f"{place}/{key}"}]}
            for key in (*component.get("outputDefinitions", {}).get("artifacts", {}), "executor-logs")
        }
        values = {key: value for key, value in self.parameters.items() if key in json.dumps(component)}
        executor_input = {
            "inputs": {"artifacts": artifacts, "parameterValues": values},
            "outputs": {"artifacts": outputs},
        }
        asked = container.get("resources", {})
        limits = {"cpu": asked.get("resourceCpuLimit"), "memory": asked.get("resourceMemoryLimit")}
        command = ["/kfp-launcher/launch", "--run_id", self.run_id, "--executor_input", json.dumps(executor_input)]
        command += ["--component_spec", json.dumps(component), "--", *container["command"], *container["args"]]
        resources = {"limits": limits, "requests": limits}
        return json.dumps(
            {"containers": [{"name": "main", "image": container["image"], "command": command, "resources": resources}]}
        )

    def _dag_inputs(self, component: Mapping[str, Any], task: Mapping[str, Any], index: str) -> dict[str, str]:
        values = {"component": json.dumps(component), "runtime-config": "", "task": json.dumps(task)}
        return {**values, "task-name": "", "parent-dag-id": "2", "iteration-index": index, "driver-type": "DAG"}

    def _driver(self, path: str, template: str, boundary: str, inputs: dict[str, str], outputs: dict[str, str]) -> None:
        told = outputs or {"execution-id": "1", "iteration-count": "0", "condition": "nil"}
        more = {"inputs": _parameters(inputs), "outputs": {**_parameters(told), "exitCode": "0"}}
        self._node(path, "Retry", template, boundary, "Succeeded", **more)
        self._node(f"{path}(0)", "Pod", template, boundary, "Succeeded", nodeFlag=ATTEMPT, **_on_host(more))

    def _retried(
        self,
        path: str,
        template: str,
        boundary: str,
        inputs: dict[str, str],
        *,
        hooked: bool = False,
        phase: str = "Succeeded",
    ) -> str:
        """A DAG inside the node that would try it again; its path."""
        more = {"inputs": _parameters(inputs)} if inputs else {}
        flag = {"hooked": True} if hooked else {}
        self._node(
            path, "Retry", template, boundary, phase, **({"nodeFlag": {**flag, **ATTEMPT}} if hooked else {}), **more
        )
        self._node(f"{path}(0)", "DAG", template, boundary, phase, nodeFlag={**flag, **ATTEMPT}, **more)
        return f"{path}(0)"

    def _node(self, name: str, kind: str, template: str, boundary: str, phase: str, **more: Any) -> None:
        began = self.began + timedelta(seconds=10 * self.begun)
        self.begun += kind == "Pod"
        ended = {} if phase in ("Running", "Pending") else {"finishedAt": _iso(began + timedelta(seconds=185))}
        self.nodes[name] = {
            "id": self.name if name == self.name else f"{self.name}-{_hash(name)}",
            "name": name,
            "displayName": name.removeprefix(f"{boundary}."),
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": phase,
            **({"boundaryID": f"{self.name}-{_hash(boundary)}"} if boundary else {}),
            "startedAt": _iso(began),
            **ended,
            "progress": "1/1",
            "resourcesDuration": {"cpu": 0, "memory": 1},
            **more,
        }


def _parameters(values: Mapping[str, str]) -> dict[str, Any]:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


def _on_host(more: dict[str, Any]) -> dict[str, Any]:
    return {**more, "hostNodeName": "node-1", "taskResultSynced": True}


def _hash(name: str) -> int:
    """Argo's hash of a node's name (FNV-1a), which makes its id and the name of its pod."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
