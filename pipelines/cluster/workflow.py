"""What became of each stage of a run, as the Argo workflow below it has it.

KFP's own list of tasks stops once Argo compresses its nodes, names no loop's item and gives no cause. The workflow has
all of it: `X-driver` is a pod of KFP's that looks up the inputs of the stage X and the cache; inside the node X, the
pods of `executor` are the attempts at it.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from untrigger.stages.identities import STAGES
from untrigger.storage.objects import Address
from untrigger.tracking.progress import Event, Kind, duration

Node = Mapping[str, Any]

DRIVER = "system-container-driver"
"""The template of a stage's driver."""

_NAMES = {
    "triggers": "{item} {title}",
    "beta_plan": "generator beta={item}",
    "retraining_plan": "{title} {item[method]}",
    "model_plan": "{title} {item}",
    "reference_plan": "{title} {item}",
    "backdoor_plan": "{title} {item[attack]} seed={item[seed]}",
    "method_plan": "{title} {item}",
}
"""What a stage is called inside a loop over this parameter of the DAG."""

_TITLES = {identity.task: identity.title for identity in STAGES.values()}

_ROUTINE = ("", "ContainerCreating", "PodInitializing")
"""What Argo says of a pod that is about to start."""

_PASSING = re.compile(
    r"pod deleted|evicted|low on resource|preempt|node.*(lost|shutdown|not ready)|shutdown|exit code 143", re.IGNORECASE
)
"""What Argo says of pods that were taken away: nothing that the stage itself did."""

_ATTEMPT = re.compile(r"\(\d+\)$")
_ITERATION = re.compile(r"\.iteration-iterations\((\d+):[^)]*\)")


@dataclass(frozen=True)
class Stage(Event):
    """What became of a stage.

    `logs` is where its log lies in the store, likeliest place first. `routine`: it merely begins, as every stage does.
    `may_pass`: it failed of what another attempt may be spared.
    """

    logs: tuple[Address, ...] = ()
    routine: bool = False
    may_pass: bool = False


@dataclass(frozen=True)
class Workflow:
    """The nodes of a workflow by name, and what it says of itself."""

    nodes: Mapping[str, Node]
    terminated: bool
    log_bucket: str

    @classmethod
    def read(cls, manifest: str) -> Workflow | None:
        """From the `workflow_manifest` of a run; None where it has no nodes (yet)."""
        content = json.loads(manifest or "{}")
        status = content.get("status") or {}
        nodes = status.get("nodes")
        if not nodes and status.get("compressedNodes"):
            nodes = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
        if not nodes:
            return None
        repository = (status.get("artifactRepositoryRef") or {}).get("artifactRepository") or {}
        return cls(
            {node["name"]: node for node in nodes.values()},
            (content.get("spec") or {}).get("activeDeadlineSeconds") == 0,
            (repository.get("s3") or {}).get("bucket", ""),
        )

    def last_change(self) -> datetime:
        """When a node last began or ended."""
        times = (node.get(name) for node in self.nodes.values() for name in ("startedAt", "finishedAt"))
        return max(datetime.fromisoformat(time) for time in times if time)

    def stages(self, parameters: Mapping[str, Any]) -> list[Stage]:
        """All stages that began or will not begin any more, in the order of their beginning.

        `parameters` are those of the run.
        """
        paths = {
            name.removesuffix("-driver")
            for name in (_ATTEMPT.sub("", name) for name, node in self.nodes.items() if node["templateName"] == DRIVER)
        }
        found = [self._stage(path, self._name(path, parameters)) for path in paths]
        return sorted(found, key=lambda stage: (stage.time, stage.stage))

    def _stage(self, path: str, name: str) -> Stage:
        drivers, attempts = self._pods(f"{path}-driver"), self._attempts(path)
        pod = (attempts or drivers)[-1]
        kind, text, routine = self._state(pod, bool(attempts), len(attempts))
        began = datetime.fromisoformat((attempts or drivers)[0]["startedAt"]).timestamp()
        # KFP's driver fails of what happened around it: where its pod is lost, it runs twice and finds its own traces.
        may_pass = kind == "failed" and (not attempts or bool(_PASSING.search(pod.get("message") or "")))
        return Stage(name, kind, text, time=began, logs=tuple(self._logs(pod)), routine=routine, may_pass=may_pass)

    def _attempts(self, path: str) -> list[Node]:
        """The pods of a stage's container, first attempt first."""
        attempts = self._pods(f"{path}.executor")
        for number in itertools.takewhile(lambda each: f"{path}({each})" in self.nodes, itertools.count()):
            attempts += self._pods(f"{path}({number}).executor")
        return attempts

    def _pods(self, path: str) -> list[Node]:
        """The pods below a node; where it has none, the node itself unless it only waits for one."""
        pods: list[Node] = []
        while (pod := self.nodes.get(f"{path}({len(pods)})")) is not None:
            pods.append(pod)
        alone = self.nodes.get(path)
        return pods or ([alone] if alone is not None and alone["type"] != "Retry" else [])

    def _state(self, pod: Node, is_stage: bool, attempt: int) -> tuple[Kind, str, bool]:
        """Kind, text, and whether that merely is how every stage begins; `pod` is the latest one."""
        phase, message = pod["phase"], pod.get("message") or ""
        again = f"attempt {attempt}" if attempt > 1 else ""
        if phase == "Omitted":
            return "omitted", "since the run was terminated" if self.terminated else "since what it needs failed", False
        if phase == "Skipped":
            return "reused", "", False
        if phase == "Pending":
            return "waits", _waiting(message), message in _ROUTINE
        if phase in ("Failed", "Error"):
            took, cause = _took(pod), self._cause(pod, is_stage)
            if self.terminated and "exit code 143" in message:
                return "terminated", took, False
            return "failed", " ".join(part for part in (took, again and f"({again})") if part) + f": {cause}", False
        if not is_stage:
            return "waits", "for KFP to look up its inputs" if phase == "Running" else "for its pod", True
        if phase == "Running":
            return "started", f"again, {again}" if again else "", False
        return "finished", f"{_took(pod)}{f', {again}' if again else ''}", False

    def _cause(self, pod: Node, is_stage: bool) -> str:
        message, spec = pod.get("message") or "", _pod_spec(pod)
        what = "" if is_stage else "KFP's driver: "
        if "OOMKilled" in message:
            limit = _container(spec).get("resources", {}).get("limits", {}).get("memory", "its limit")
            return f"{what}out of memory, it may have {limit} (OOMKilled): `submit --placement` gives more"
        if "specified deadline" in message:
            limit = spec.get("activeDeadlineSeconds")
            return f"{what}its deadline{f' of {duration(int(limit))}' if limit else ''} has passed"
        if re.search("ImagePull|InvalidImageName", message):
            return f"{what}its image cannot be pulled: {message}"
        if code := re.search(r"exit code (\d+)", message):
            return f"{what}exit code {code[1]}"
        return what + (message or "without a reason")

    def _logs(self, pod: Node) -> Iterator[Address]:
        """What KFP keeps of the container's output, then what Argo keeps."""
        command = _container(_pod_spec(pod)).get("command", [])
        if pod["templateName"] != DRIVER and "--executor_input" in command:
            outputs = json.loads(command[command.index("--executor_input") + 1])["outputs"]["artifacts"]
            for artifact in outputs.get("executor-logs", {}).get("artifacts", ()):
                yield Address.parse(artifact["uri"])
        for artifact in (pod.get("outputs") or {}).get("artifacts") or ():
            if artifact["name"] == "main-logs" and self.log_bucket:
                yield Address(artifact.get("s3", {}).get("bucket") or self.log_bucket, artifact["s3"]["key"])

    def _name(self, path: str, parameters: Mapping[str, Any]) -> str:
        task = path.rpartition(".")[2]
        driver = self.nodes.get(f"{path}-driver") or self.nodes[f"{path}-driver(0)"]
        own = json.loads(_input(driver, "task") or "{}").get("taskInfo", {}).get("name")
        name = own or _TITLES.get(task) or task.replace("-", " ")
        # From the innermost loop to the outermost one.
        for hit in reversed(list(_ITERATION.finditer(path))):
            name = self._named_after_item(name, path[: hit.start()], int(hit[1]), parameters)
        return name

    def _named_after_item(self, name: str, loop: str, index: int, parameters: Mapping[str, Any]) -> str:
        driver = self.nodes.get(f"{loop}.iteration-driver") or self.nodes.get(f"{loop}.iteration-driver(0)") or {}
        items = json.loads(_input(driver, "task") or "{}").get("parameterIterator", {}).get("items", {})
        parameter = items.get("inputParameter", "").removeprefix("pipelinechannel--")
        try:
            # Several models or references stand one a line.
            return " ".join(_NAMES[parameter].format(title=name, item=parameters[parameter][index]).split())
        except (KeyError, IndexError, TypeError):
            return f"{name} ({index + 1})"


def stages_called(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stage with this name; else all those whose name has this part."""
    exact = [stage for stage in stages if stage.stage == name]
    return exact or [stage for stage in stages if name in stage.stage]


def _waiting(message: str) -> str:
    if message in _ROUTINE:
        return "for its pod to start"
    if message.startswith("Unschedulable: "):
        reason = message.removeprefix("Unschedulable: ")
        # What the scheduler adds about preemption and claims helps nobody.
        return f"for a node: {reason.partition('. ')[0].rstrip('.')}"
    return f"for its pod: {message}"


def _took(pod: Node) -> str:
    began, ended = (datetime.fromisoformat(pod[name]) for name in ("startedAt", "finishedAt"))
    return f"after {duration(max(0.0, (ended - began).total_seconds()))}"


def _input(node: Node, name: str) -> str:
    parameters = (node.get("inputs") or {}).get("parameters") or ()
    return next((each.get("value") or "" for each in parameters if each["name"] == name), "")


def _pod_spec(pod: Node) -> dict[str, Any]:
    """What KFP asked for the pod of a stage."""
    return dict(json.loads(_input(pod, "pod-spec-patch") or "{}"))


def _container(spec: Mapping[str, Any]) -> dict[str, Any]:
    return dict(next(iter(spec.get("containers", ())), {}))
