"""From a configuration to a run on a cluster: the copy of the DAG that is uploaded, its data, and its start."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from untrigger import __version__
from untrigger.datasets.sources import check_dataset, dataset_place
from untrigger.errors import UserError
from untrigger.pipelines.arguments import compiled_for, pipeline_arguments
from untrigger.pipelines.cluster.api import Cluster
from untrigger.pipelines.cluster.placement import Placement, with_placement
from untrigger.pipelines.images import PINS, images_in, is_pinned, with_pins
from untrigger.runs.stored_reports import PIPELINE_ROOT
from untrigger.settings.runs import DefenseConfig, SweepConfig
from untrigger.storage.bundles import OnFile, quiet, read_manifest
from untrigger.storage.downloads import classifier_folder, is_trigger_file, kept_copy
from untrigger.storage.objects import Address, ObjectStore
from untrigger.triggers import read_trigger

INPUT_SETTINGS = ("dataset", "weights", "trigger", "triggers", "panels")
"""The settings that may name something on this machine."""


@dataclass(frozen=True)
class Submission:
    """What is to run, checked as far as that needs neither cluster nor store."""

    config: DefenseConfig | SweepConfig
    documents: list[dict[str, Any]]
    store: Address

    @classmethod
    def of(
        cls,
        config: DefenseConfig | SweepConfig,
        store: str,
        placement: Placement,
        pins: Mapping[str, str],
        *,
        allow_unpinned: bool,
    ) -> Submission:
        """UserError when an input is not to be had, or an image has no digest and that is not allowed."""
        _check_inputs(config)
        compiled = list(yaml.safe_load_all(compiled_for(config).read_text()))
        submission = cls(config, with_placement(with_pins(compiled, pins), placement), Address.parse(store))
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

    @property
    def root(self) -> str:
        """The pipeline root: where the artifacts go."""
        return str(self.store / PIPELINE_ROOT)

    def inputs_to_store(self) -> list[str]:
        """What lies on this machine of dataset, classifier and triggers, as `untrigger store put` takes it."""
        dataset, weights = self.config.dataset, self.config.weights
        here = [dataset] if not dataset.startswith("s3://") and dataset_place(dataset) is not None else []
        here += [weights] if weights and not weights.startswith("s3://") else []
        return here + [name for name in self.config.planted() if is_trigger_file(name)]

    def package(self) -> str:
        """The YAML that is uploaded."""
        return yaml.safe_dump_all(self.documents)


def run_name(config: DefenseConfig | SweepConfig) -> str:
    """What a run is called unless it is given a name: what runs, and when it was submitted."""
    what = f"{len(config.triggers)} triggers" if isinstance(config, SweepConfig) else config.trigger
    return f"{what} seed {config.seed} {time.strftime('%Y-%m-%d %H:%M:%S')}"


def check_stored_inputs(submission: Submission) -> None:
    """UserError unless the store may be written to and holds the inputs that are named by addresses."""
    store = ObjectStore()
    store.check_writable(submission.store)
    config = submission.config
    triggers = [(name, "trigger") for name in config.planted()]
    for name, kind in ((config.dataset, "dataset"), (config.weights, "model"), *triggers):
        if name and name.startswith("s3://"):
            found = read_manifest(store, Address.parse(name)).kind
            if found != kind:
                raise UserError(f"{name} is a {found}, not a {kind}")


def submit(
    submission: Submission,
    cluster: Cluster,
    *,
    name: str,
    experiment: str,
    tell: Callable[[str], None],
    on_file: OnFile = quiet,
) -> str:
    """Store the inputs, upload the DAG, start the run; returns its id. What is there already is not uploaded again."""
    config = _with_stored_inputs(submission, tell, on_file)
    package = submission.package()
    digest = hashlib.sha256(package.encode()).hexdigest()[:12]
    uploaded = cluster.pipeline_version(submission.pipeline, f"{__version__}-{digest}", package)
    run = cluster.start(name, experiment, uploaded, pipeline_arguments(config), submission.root)
    return str(run.run_id)


def _check_inputs(config: DefenseConfig | SweepConfig) -> None:
    for trigger in config.planted():
        if trigger.startswith("s3://"):
            kept_copy(trigger, "trigger")
        else:
            read_trigger(trigger)
    if config.dataset.startswith("s3://"):
        kept_copy(config.dataset)
    elif config.data.download:
        raise UserError("--download is for this machine: `untrigger store put` the dataset, and give its address")
    else:
        check_dataset(config.dataset, config.data)
    if config.weights is not None:
        if config.weights.startswith("s3://"):
            kept_copy(config.weights, "model")
        else:
            classifier_folder(config.weights)


def _with_stored_inputs(
    submission: Submission, tell: Callable[[str], None], on_file: OnFile
) -> DefenseConfig | SweepConfig:
    """The configuration with every input of this machine replaced by its address in the store."""
    from untrigger.runs.publishing import publish

    config, stored = submission.config, {}
    for source in submission.inputs_to_store():
        stored[source] = str(publish(source, str(submission.store), on_file, config.data))
        tell(f"{source} is {stored[source]}")

    def named(value: Any) -> Any:
        return tuple(map(named, value)) if isinstance(value, tuple) else stored.get(value, value)

    settings = [name for name in INPUT_SETTINGS if name in type(config).model_fields]
    return config.model_copy(update={name: named(getattr(config, name)) for name in settings})
