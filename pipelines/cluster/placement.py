"""Where the stages of a submitted DAG run: chosen as it is submitted, while the compiled DAG stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from untrigger.artifacts import read_text
from untrigger.errors import UserError
from untrigger.networks.devices import GPUS
from untrigger.pipelines.resources import GPU_TYPE
from untrigger.settings.base import Frozen
from untrigger.stages.identities import STAGES

_EXECUTORS = {identity.title: f"exec-{identity.task}" for identity in STAGES.values()}

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: f"{value}" if isinstance(value, int | float) else value),
    Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|[MGT]|[KMGT]i)?$"),
]


class Toleration(Frozen):
    """A taint of nodes that a stage's pod accepts, in Kubernetes' own terms and with its defaults."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _is_a_toleration(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"a toleration with the operator Exists takes no value, got {self.value!r}")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("a toleration needs a key, unless its operator is Exists")
        return self


class StagePlacement(Frozen):
    """What one stage asks for in place of everything else."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] | None = None


class Placement(Frozen):
    """What every GPU stage asks for in place of what is compiled; what is not given stays as compiled.

    `stages` says the same of single stages by their titles, with a GPU or without.
    """

    gpu_type: str = Field(GPU_TYPE, min_length=1, description="resource name of the GPUs")
    gpus: int = Field(1, ge=0, le=64, description="GPUs per stage; 0: the stages run on CPUs")
    cpu: Quantity | None = None
    memory: Quantity | None = None
    shared_memory: Quantity | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] | None = Field(None, description="in place of that of the GPU type")
    stages: dict[str, StagePlacement] = {}

    @field_validator("stages")
    @classmethod
    def _are_stages(cls, stages: dict[str, StagePlacement]) -> dict[str, StagePlacement]:
        if unknown := sorted(stages.keys() - _EXECUTORS.keys()):
            raise ValueError(f"there is no stage {', '.join(unknown)}, there are {', '.join(_EXECUTORS)}")
        return stages

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML or JSON file; UserError when it is not one, or says something that is not to be placed."""
        source = f"the placement {path}"
        try:
            content = yaml.safe_load(read_text(path, source))
        except yaml.YAMLError as error:
            raise UserError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise UserError(f"{source} must be a mapping, such as `gpu_type: nvidia.com/gpu`")
        if unknown := sorted(map(str, content.keys() - cls.model_fields.keys())):
            raise UserError(f"{source} has {', '.join(unknown)}, it may have {', '.join(cls.model_fields)}")
        return cls.of(content, source)

    def asked(self) -> str:
        """In words, for a person."""
        parts = [f"{self.gpus} x {self.gpu_type}" if self.gpus else "no GPU"]
        parts += [f"{name} {value}" for name, value in (("cpu", self.cpu), ("memory", self.memory)) if value]
        parts += [f"node {key}={value}" for key, value in self.node_selector.items()]
        return ", ".join(parts)

    def tolerated(self) -> list[dict[str, Any]]:
        """The tolerations of a GPU stage: those given, else the one that nodes with such GPUs are tainted with."""
        chosen = self.tolerations
        if chosen is None:
            chosen = (Toleration(key=self.gpu_type, operator="Exists", effect="NoSchedule"),) if self.gpus else ()
        return [toleration.model_dump(exclude_none=True) for toleration in chosen]


def with_placement(documents: Sequence[dict[str, Any]], placement: Placement) -> list[dict[str, Any]]:
    """The documents of a compiled DAG (its spec and its platform spec) with the GPU stages placed anew."""
    spec, platform = copy.deepcopy(list(documents))
    executors = spec["deploymentSpec"]["executors"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name in gpu_executors(spec):
        container = executors[name]["container"]
        _place(container["resources"], pods[name], placement)
        if placement.gpus:
            # So that the stage can tell that it should find some: no cache key holds what the environment says.
            container.setdefault("env", []).append({"name": GPUS, "value": str(placement.gpus)})
    for title, chosen in placement.stages.items():
        name = _EXECUTORS[title]
        if name in executors:
            _place_one(executors[name]["container"]["resources"], pods[name], chosen)
    return [spec, platform]


def gpu_executors(spec: dict[str, Any]) -> Iterator[str]:
    """The names of the executors that ask for a GPU."""
    for name, executor in spec["deploymentSpec"]["executors"].items():
        if "accelerator" in executor["container"].get("resources", {}):
            yield name


def _place(resources: dict[str, Any], pod: dict[str, Any], placement: Placement) -> None:
    if placement.gpus:
        # Both pairs of names, as KFP's compiler writes them.
        count, kind = str(placement.gpus), placement.gpu_type
        resources["accelerator"] = {"count": count, "resourceCount": count, "resourceType": kind, "type": kind}
    else:
        del resources["accelerator"]
    _ask(resources, placement.cpu, placement.memory)
    if placement.shared_memory:
        for mount in pod.get("emptyDirMounts", []):
            mount["sizeLimit"] = placement.shared_memory
    if placement.node_selector:
        pod["nodeSelector"] = {"labels": dict(placement.node_selector)}
    pod["tolerations"] = placement.tolerated()


def _place_one(resources: dict[str, Any], pod: dict[str, Any], placement: StagePlacement) -> None:
    _ask(resources, placement.cpu, placement.memory)
    if placement.node_selector:
        pod["nodeSelector"] = {"labels": dict(placement.node_selector)}
    if placement.tolerations is not None:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in placement.tolerations]


def _ask(resources: dict[str, Any], cpu: str | None, memory: str | None) -> None:
    for name, older, value in (("Cpu", "cpu", cpu), ("Memory", "memory", memory)):
        if value:
            for kind in ("Limit", "Request"):
                resources[f"resource{name}{kind}"] = value
                resources.pop(f"{older}{kind}", None)
