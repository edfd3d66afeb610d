"""A run's files in an object store: each stage's artifacts as the stage ends, the rest when the run does."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from untrigger.artifacts import read_json
from untrigger.errors import UserError
from untrigger.runs.output_folder import PUBLISHED, OutputFolder
from untrigger.storage.bundles import FOLDERS, OnFile, dated, put_content, put_files, put_manifest, quiet
from untrigger.storage.downloads import TRIGGER_SUFFIXES
from untrigger.storage.objects import Address, ObjectStore
from untrigger.tracking.progress import Reporter

if TYPE_CHECKING:
    from untrigger.settings.methods import DataSettings

POLL_SECONDS = 0.5
STORED = (*PUBLISHED, "run.json", "pipeline.log", "progress.jsonl", "tracking.jsonl", "mlflow.db", "mlartifacts")


def check_store(address: str) -> Address:
    """The parsed address; UserError when its store, its bucket or the credentials are wrong, or do not let us write."""
    parsed = Address.parse(address)
    ObjectStore().check_writable(parsed)
    return parsed


class RunPublisher:
    """Brings the files of one run to `base`/runs/<run id>, and keeps the manifest there up to date.

    The manifest says `complete` when everything is there; until then it lists what is.
    """

    def __init__(self, output: OutputFolder, base: Address, on_file: OnFile = quiet) -> None:
        self.address = base / FOLDERS["run"] / output.read_run_id()
        self.reporter = Reporter("object store")
        self._store = ObjectStore(on_wait=lambda text: self.reporter.say("warning", text))
        self._output = output
        self._on_file = on_file
        self._base = base
        config = read_json(output.path / "run.json")["config"]
        self._manifest = dated("run", dataset=config["dataset"], seed=config["seed"], complete=False)
        self._published: set[Path] = set()

    def new_stages(self) -> None:
        """Upload the artifacts of stages that have ended since the last call."""
        for folder in sorted(self._output.stages.glob("[!.]*/")):
            if folder not in self._published:
                put_files(self._store, self._output.path, _files(folder), self.address, self._manifest)
                put_manifest(self._store, self.address, self._manifest)
                self._published.add(folder)
                self.reporter.say("finished", f"{folder.name.rpartition('-')[0]} is stored")

    def everything(self) -> None:
        """Upload whatever is not there yet, and leave the manifest beside the results.

        Raises UserError that says how to do it later when the store stays away.
        """
        try:
            put_files(self._store, self._output.path, self._all_files(), self.address, self._manifest, self._on_file)
            self._manifest.about["complete"] = True
            put_manifest(self._store, self.address, self._manifest)
        except UserError as error:
            remedy = f"`untrigger store put {shlex.quote(str(self._output.path))} {self._base}`"
            raise UserError(f"{error}; nothing is lost, the run lies in {self._output.path}: {remedy}") from error
        (self._output.path / "manifest.json").write_text(self._manifest.text())

    def _all_files(self) -> list[Path]:
        """The run's own files: nothing else that may lie in the folder leaves this machine."""
        entries = [self._output.path / name for name in STORED if (self._output.path / name).exists()]
        entries += self._output.stages.glob("[!.]*/")
        return [path for entry in entries for path in ([entry] if entry.is_file() else _files(entry))]


@contextmanager
def publishing(publisher: RunPublisher | None) -> Iterator[None]:
    """Upload the artifacts of stages as they end, in a thread of its own, until the block ends.

    A store that stays away is reported and not tried again until the end of the run: the block goes on.
    """
    if publisher is None:
        yield
        return
    ended = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = ended.wait(POLL_SECONDS)
            try:
                publisher.new_stages()
            except UserError as error:
                publisher.reporter.say("warning", str(error))
                return

    thread = threading.Thread(target=follow, name="publishing")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def publish(source: str, address: str, on_file: OnFile = quiet, data: DataSettings | None = None) -> Address:
    """Store a dataset, a run, a classifier or a trigger, given as `untrigger store put` takes it; the address it got.

    data: how a dataset is to be read, where the defaults do not do. Raises UserError when `source` is none of them.
    """
    base = check_store(address)
    store = ObjectStore(on_wait=lambda text: Reporter("object store").say("warning", text))
    folder = Path(source)
    if (folder / "run.json").is_file():
        output = OutputFolder(folder)
        with output.locked():
            publisher = RunPublisher(output, base, on_file)
            publisher.everything()
        return publisher.address
    if (folder / "classifier.json").is_file():
        from untrigger.classifiers import ClassifierDescription

        manifest = dated("model", architecture=ClassifierDescription.load(folder).settings.architecture)
        return put_content(store, folder, _files(folder), base, manifest, on_file)
    if source.endswith(TRIGGER_SUFFIXES):
        return _publish_trigger(store, folder, base, on_file)
    return _publish_dataset(store, source, base, on_file, data)


def _publish_trigger(store: ObjectStore, file: Path, base: Address, on_file: OnFile) -> Address:
    from untrigger.triggers import read_trigger

    _, height, width = read_trigger(str(file)).shape
    return put_content(store, file.parent, [file], base, dated("trigger", size=f"{height}x{width}"), on_file)


def _publish_dataset(
    store: ObjectStore, source: str, base: Address, on_file: OnFile, data: DataSettings | None
) -> Address:
    from untrigger.datasets.sources import check_dataset, dataset_files, dataset_place
    from untrigger.settings.methods import DataSettings

    kind = source.partition(":")[0]
    place = dataset_place(source) if kind != "s3" else None
    if place is None:
        raise UserError(
            f"{source!r} is nothing to store: give a dataset such as parquet:PATH, the output folder of a run, "
            "a folder with a classifier, or a trigger's .png or .safetensors file"
        )
    check_dataset(source, data or DataSettings())
    # Two layouts are read with the folder's own name, or as a single file.
    inside = place.is_dir() and kind not in ("cifar10", "cifar100")
    root = place if inside else place.parent
    return put_content(store, root, dataset_files(source), base, dated("dataset", dataset=kind), on_file)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
