"""From a configuration to a run on a cluster: the copy of the DAG that is uploaded, its data, and its start."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from untrigger import __version__
from untrigger.errors import UserError
from untrigger.pipelines.arguments import compiled_for, pipeline_arguments
from untrigger.pipelines.cluster.api import Cluster
from untrigger.pipelines.cluster.division import divided, part_arguments
from untrigger.pipelines.cluster.placement import Placement, with_placement
from untrigger.pipelines.cluster.size import Size, size_of
from untrigger.pipelines.images import PINS, images_in, is_pinned, with_pins
from untrigger.plugins import refuse_plugins
from untrigger.references import Recipe, split_of
from untrigger.runs.inputs import check_input_of_run, input_sources
from untrigger.runs.stored_reports import PIPELINE_ROOT
from untrigger.settings.pipelines import RunConfig
from untrigger.settings.tracked import RUN_ID, SweepPart, TrackedAs
from untrigger.stages.reuse import IMAGE
from untrigger.storage.bundles import OnFile, quiet, read_manifest
from untrigger.storage.objects import Address, ObjectStore

DEFAULT_STORE = Address("untrigger")
"""Where the cluster cannot be asked."""

INPUT_SETTINGS = ("dataset", "weights", "trigger", "triggers", "panels", "model", "models", "references")
"""The settings that may name something on this machine."""


@dataclass(frozen=True)
class Submission:
    """What is to run, checked as far as that needs neither cluster nor store."""

    config: RunConfig
    documents: list[dict[str, Any]]
    store: Address | None
    """Below it inputs and artifacts go; None until the cluster has been asked."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        store: str | None,
        placement: Placement,
        pins: Mapping[str, str],
        *,
        allow_unpinned: bool,
    ) -> Submission:
        """UserError when an input is not to be had, or an image has no digest and that is not allowed.

        Nor are modules of the user's own taken, which the stages would lack.
        """
        refuse_plugins("run on this machine")
        _check_inputs(config)
        compiled = list(yaml.safe_load_all(compiled_for(config).read_text()))
        documents = _with_image_names(with_placement(with_pins(compiled, pins), placement))
        submission = cls(config, documents, Address.parse(store) if store else None)
        if submission.unpinned and not allow_unpinned:
            first = submission.unpinned[0]
            raise UserError(
                f"{len(submission.unpinned)} images have no digest, {first} among them: resolve them with "
                f"`make pin-images REGISTRY=...`, which writes {PINS}, or add --allow-unpinned"
            )
        return submission

    @property
    def pipeline(self) -> str:
        """The pipeline's name on the cluster."""
        return f"untrigger-{self.documents[0]['pipelineInfo']['name']}"

    @property
    def images(self) -> list[str]:
        """All images, in order."""
        return sorted(images_in(self.documents))

    @property
    def unpinned(self) -> list[str]:
        """The images that have no digest."""
        return [image for image in self.images if not is_pinned(image)]

    def sizes(self) -> list[Size]:
        """The nodes and pods of its workflow, or of each that its sweep is divided into."""
        spec = self.documents[0]
        return [size_of(spec, pipeline_arguments(part)) for part in divided(self.config, spec)]

    @property
    def root(self) -> str:
        """The pipeline root: where the artifacts go."""
        return str(self.at / PIPELINE_ROOT)

    @property
    def at(self) -> Address:
        """Below it inputs and artifacts go: what was given or what the cluster said, else the bucket of old."""
        return self.store or DEFAULT_STORE

    def inputs_to_store(self) -> list[str]:
        """What lies on this machine of dataset, classifier and triggers, as `untrigger store put` takes it."""
        return [source.name for source in input_sources(self.config) if source.path is not None]

    def package(self) -> str:
        """The YAML that is uploaded."""
        return yaml.safe_dump_all(self.documents)


def _with_image_names(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each stage told by the environment, which no cache key holds, in which image it runs."""
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container.setdefault("env", []).append({"name": IMAGE, "value": container["image"]})
    return documents


def check_stored_inputs(submission: Submission) -> None:
    """UserError unless the store may be written to and holds the inputs that are named by addresses."""
    store = ObjectStore()
    store.check_writable(submission.at)
    for source in input_sources(submission.config):
        if source.stored and (found := read_manifest(store, Address.parse(source.name)).kind) != source.kind:
            raise UserError(f"{source.name} is a {found}, not a {source.kind}")
        if source.stored and source.kind == "references":
            _check_stored_split(store, source.name, submission.config)


def _check_stored_split(store: ObjectStore, references: str, config: RunConfig) -> None:
    content = store.read(Address.parse(references) / Recipe.FILE)
    if content is not None:
        Recipe.parse(content, references).check_split(references, split_of(config))


def submit(
    submission: Submission,
    cluster: Cluster,
    *,
    name: str,
    experiment: str,
    tracked_in: str,
    tell: Callable[[str], None],
    on_file: OnFile = quiet,
) -> list[str]:
    """Store the inputs, upload the DAG, start the run, or one for each part of a divided sweep; returns their ids.

    What is there already is not uploaded again. `experiment` is the id of KFP's, `tracked_in` the name of MLflow's (""
    for its default).
    """
    stored = _store_inputs(submission, tell, on_file)
    config = _with_addresses(submission.config, stored)
    package = submission.package()
    digest = hashlib.sha256(package.encode()).hexdigest()[:12]
    uploaded = cluster.pipeline_version(submission.pipeline, f"{__version__}-{digest}", package)
    tracking = TrackedAs(
        name=name,
        experiment=tracked_in,
        links=_links(submission, cluster),
        names={address: source for source, address in stored.items()},
    )
    parts = divided(config, submission.documents[0])
    appearances = [tracking] if len(parts) == 1 else _of_parts(tracking, len(parts))
    return [
        cluster.start(each.name, experiment, uploaded, part_arguments(config, part, each), submission.root)
        for part, each in zip(parts, appearances, strict=True)
    ]


def _of_parts(tracking: TrackedAs, count: int) -> list[TrackedAs]:
    """How each part of a sweep appears that as a whole appears as `tracking`."""
    sweep = str(uuid.uuid4())
    parts = [SweepPart(id=sweep, name=tracking.name, number=number, count=count) for number in range(1, count + 1)]
    return [tracking.model_copy(update={"name": part.run_name, "sweep": part}) for part in parts]


def _links(submission: Submission, cluster: Cluster) -> dict[str, str]:
    """What a run's page in MLflow leads to: its page in KFP, and the address that `untrigger compare` takes."""
    pipeline = submission.documents[0]["pipelineInfo"]["name"]
    return {"kfp": cluster.link(RUN_ID), "report": f"{submission.root}/{pipeline}/{RUN_ID}"}


def _check_inputs(config: RunConfig) -> None:
    here = [source for source in input_sources(config) if not source.stored]
    if config.data.download and any(source.kind == "dataset" for source in here):
        raise UserError("--download is for this machine: `untrigger store put` the dataset, and give its address")
    for source in here:
        check_input_of_run(source, config)


def _store_inputs(submission: Submission, tell: Callable[[str], None], on_file: OnFile) -> dict[str, str]:
    """Put the inputs of this machine into the store; their addresses by their names."""
    from untrigger.runs.publishing import publish

    stored = {}
    for source in submission.inputs_to_store():
        stored[source] = str(publish(source, str(submission.at), on_file, submission.config.data))
        tell(f"{source} is {stored[source]}")
    return stored


def _with_addresses(config: RunConfig, stored: Mapping[str, str]) -> RunConfig:
    """The configuration with every input that is stored named by its address."""

    def named(value: Any) -> Any:
        return tuple(map(named, value)) if isinstance(value, tuple) else stored.get(value, value)

    settings = [name for name in INPUT_SETTINGS if name in type(config).model_fields]
    return config.model_copy(update={name: named(getattr(config, name)) for name in settings})
