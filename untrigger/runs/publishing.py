"""A run's files in an object store: each stage's artifacts as the stage ends, the rest when the run does."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from untrigger.artifacts import read_tensors
from untrigger.classifiers import ClassifierDescription
from untrigger.datasets.sources import source_of
from untrigger.errors import UserError
from untrigger.references import reference_names
from untrigger.runs.inputs import check_input
from untrigger.runs.output_folder import REPORTED, OutputFolder
from untrigger.settings.base import Kind, home_expanded
from untrigger.settings.methods import DataSettings
from untrigger.storage.bundles import OnFile, dated, put_content, put_files, put_manifest, quiet
from untrigger.storage.files import FOLDERS
from untrigger.storage.objects import Address, ObjectStore
from untrigger.storage.sources import (
    CLASSIFIER_FILES,
    MODEL_SUFFIXES,
    TRIGGER_SUFFIXES,
    Source,
    has_model_name,
    is_address,
)
from untrigger.storage.tracked_models import is_tracked
from untrigger.tracking.progress import Reporter
from untrigger.triggers import TRIGGER_TENSOR, read_trigger

POLL_SECONDS = 0.5
STORED = (*REPORTED, "run.json", "pipeline.log", "progress.jsonl", "tracking.jsonl", "mlflow.db", "mlartifacts")


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
        config = output.description()["config"]
        self._manifest = dated("run", dataset=config.get("dataset"), seed=config.get("seed"), complete=False)
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
            root, files = self._output.path, self._all_files()
            put_files(self._store, root, files, self.address, self._manifest, on_file=self._on_file)
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
    """Store what `untrigger store put` takes, given as that takes it; the address it got.

    data: how a dataset is to be read, where the defaults do not do. Raises UserError when `source` is none of them.
    """
    base = check_store(address)
    store = ObjectStore(on_wait=lambda text: Reporter("object store").say("warning", text))
    folder = Path(home_expanded(source))
    if (folder / "run.json").is_file():
        output = OutputFolder(folder)
        with output.locked():
            publisher = RunPublisher(output, base, on_file)
            publisher.everything()
        return publisher.address
    given = _given(source)
    check_input(given, data or DataSettings())
    root = given.root()
    assert root is not None
    return put_content(store, root, given.files(), base, dated(given.kind, **_about(given)), on_file)


def _given(source: str) -> Source:
    """What on this machine is called `source`, and no run; UserError when there is nothing."""
    if is_tracked(source):
        return source_of("model", source)
    if not is_address(source):
        path = Path(home_expanded(source))
        if (path / CLASSIFIER_FILES[0]).is_file() or (has_model_name(path) and not _is_trigger(path)):
            return source_of("model", source)
        if any(path.glob(f"*/{CLASSIFIER_FILES[0]}")):
            return source_of("references", source)
        kinds: tuple[Kind, ...] = ("trigger", "dataset") if ":" in source else ("trigger",)
        for kind in kinds:
            if (found := source_of(kind, source)).path is not None:
                return found
    raise UserError(
        f"{source!r} is nothing to store: give a dataset such as parquet:PATH, the output folder of a run, a folder "
        f"with a classifier or with references, a model file ({', '.join(MODEL_SUFFIXES)}), or a trigger's .png or "
        ".safetensors file"
    )


def _is_trigger(path: Path) -> bool:
    """Whether a file of tensors holds a trigger, and no model."""
    return path.suffix.lower() in TRIGGER_SUFFIXES and TRIGGER_TENSOR in read_tensors(path)


def _about(given: Source) -> dict[str, str]:
    """What a manifest tells of it beside its files."""
    if given.kind == "dataset":
        return {"dataset": given.reader}
    if given.kind == "model":
        if len(given.files()) == 1:
            return {"file": given.files()[0].name}
        return {"architecture": ClassifierDescription.read(given.files()[0]).settings.architecture}
    if given.kind == "references":
        return {"count": f"{len(reference_names(given.name))}"}
    _, height, width = read_trigger(given.name).shape
    return {"size": f"{height}x{width}"}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
