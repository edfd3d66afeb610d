"""The output folder of a local run: what lies where, and when it may be written to."""

from __future__ import annotations

import shlex
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from untrigger.artifacts import read_json, write_json
from untrigger.errors import UserError
from untrigger.reports.endings import ENDINGS
from untrigger.reports.grids import CELLS, GridResult
from untrigger.reports.results import Results, RunTruth
from untrigger.reports.sweep import SweepResults
from untrigger.settings.base import home_expanded
from untrigger.stages.reuse import kept_outputs
from untrigger.storage.files import take_lock

TRUTH_STATE, TRUTH_SAMPLES = "truth", "truth.safetensors"
"""What `untrigger truth` keeps of its search, and the samples that it finds."""

REPORTED = (
    "results.json",
    "sweep.json",
    "report.html",
    "figures",
    "triggers",
    "classifier",
    "embedding.safetensors",
    "distribution",
    RunTruth.FILE,
    TRUTH_SAMPLES,
    "scans.json",
    "models",
    "gathered.json",
    "references",
    "defence.json",
    "defence",
    GridResult.FILE,
    "grid.csv",
    "grid.tex",
    CELLS,
)
WORKING = ("stages", "workspace", "pipeline.log", "progress.jsonl", "tracking.jsonl")


class OutputFolder:
    """One run's folder. Only what a run of untrigger wrote itself is ever deleted from it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(home_expanded(str(path))).resolve()
        self.stages = self.path / "stages"
        self.workspace = self.path / "workspace"
        self.log = self.path / "pipeline.log"
        self.progress = self.path / "progress.jsonl"
        self.tracking_records = self.path / "tracking.jsonl"
        self.tracking_database = self.path / "mlflow.db"
        self.tracking_uri = database_uri(self.tracking_database)
        self.tracked_files = self.path / "mlartifacts"
        self.run_id = ""
        self._description = self.path / "run.json"
        self._lock: IO[str] | None = None

    def open(self, config: dict[str, Any], contents: Mapping[str, str], *, resume: bool, overwrite: bool) -> None:
        """Make the folder ready for a run of `config`; UserError when that would cost or mix up earlier results.

        An earlier run's folder is refused unless `resume` (its finished stages are reused wherever nothing that goes
        into them has changed) or `overwrite` (its results are deleted; its tracking data stays). `contents` stands for
        what the names in `config` give; a resumed run must find it unchanged, but may find it by another name.
        """
        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one")
        self._lock = self._locked()
        earlier = self.description() if self.holds_run else None
        if earlier is None:
            self._check_unused(resume)
        elif resume:
            if (kind := _kind(earlier["config"])) != _kind(config):
                raise UserError(f"{self.path} holds {kind}, not {_kind(config)}: choose another --output")
            if self.waiting_records():
                raise UserError(
                    f"the run in {self.path} has tracking records that wait for their server: deliver them first with "
                    f"{self.delivery}, or delete {self.tracking_records}"
                )
            before = earlier["contents"]
            if changed := [name for name, content in contents.items() if before.get(name, content) != content]:
                raise UserError(f"cannot resume {self.path}: {changed[0]} has changed since; use --overwrite")
            same = _by_content(earlier["config"], before) == _by_content(config, contents)
            self.run_id = earlier["run_id"] if same else ""
        elif overwrite:
            self._delete(*REPORTED, TRUTH_STATE, "stages", "pipeline.log", "run.json")
        else:
            raise UserError(
                f"{self.path} already holds a run: add --resume to go on with it, --overwrite to replace it, "
                "or choose another --output"
            )
        # An attempt that was killed may have left records, and the files that they name, to be delivered now.
        left = self.run_id and self.tracking_records.exists()
        self._delete("progress.jsonl", *(() if left else ("tracking.jsonl", "workspace")))
        self.run_id = self.run_id or uuid.uuid4().hex
        write_json(self._description, {"run_id": self.run_id, "config": config, "contents": contents})

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            self._lock.close()

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun in it."""
        return self._description.exists()

    def read_run_id(self) -> str:
        """The id of the run that the folder holds; UserError when it holds none."""
        return str(self.description()["run_id"])

    def description(self) -> dict[str, Any]:
        """What run.json says: `run_id`, `config` and `contents`; UserError when it is damaged or of another origin."""
        found = {"contents": {}, **read_json(self._description)}
        kinds = {"run_id": str, "config": dict, "contents": dict}
        if wrong := [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]:
            raise UserError(f"{self._description} describes no run, {wrong[0]} is missing or wrong: delete that file")
        return found

    @property
    def results(self) -> Path:
        """The results of the finished run, whatever it was."""
        files = [self.path / ending.results.FILE for ending in ENDINGS.values()]
        return next((file for file in files if file.exists()), self.path / Results.FILE)

    def take_report(self, pipeline: str) -> Any:
        """Bring what the last stage of a `pipeline` reports to the top of the folder; returns its kind of results.

        Raises UserError when that stage left nothing.
        """
        ending = ENDINGS[pipeline]
        kept = kept_outputs(self.stages, ending.stage)
        if kept is None:
            raise UserError(f"the stage {ending.stage} left no outputs in {self.stages}: see {self.log}")
        self._delete(*REPORTED)
        for name in REPORTED:
            source, target = kept / "report" / name, self.path / name
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copyfile(source, target)
        return ending.results.load(self.path)

    def _locked(self) -> IO[str]:
        """The folder's lock, held until this process ends; UserError when it cannot be written or is taken."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "run.lock").open("w")
        except OSError as error:
            raise UserError(f"cannot write to the output folder {self.path}: {error.strerror}") from error
        if not take_lock(lock):
            raise UserError(f"another run is at work in {self.path}: wait for it or choose another --output")
        return lock

    def waiting_records(self) -> bool:
        """Whether tracking records of an earlier attempt wait for their server."""
        if not self.tracking_records.exists():
            return False
        with self.tracking_records.open(encoding="utf-8") as file:
            return '"known_runs"' in file.readline()

    def untracked(self, refused: int) -> str:
        """What MLflow did not take, in a sentence; "" when it has all. refused: records that it will never take."""
        if self.waiting_records():
            return f"tracking records are not delivered: {self.delivery} delivers them when their server is back"
        return f"{refused} tracking records are lost, since MLflow refused them: see {self.log}" if refused else ""

    @property
    def truth_state(self) -> Path:
        """Where a search for the truth is kept: of a trigger of a sweep beside the reports, which resuming replaces."""
        sweep = self.path.parent.parent
        of_sweep = self.path.parent.name == "triggers" and (sweep / SweepResults.FILE).exists()
        return sweep / TRUTH_STATE / self.path.name if of_sweep else self.path / TRUTH_STATE

    @property
    def delivery(self) -> str:
        """The command that delivers records that wait."""
        return f"`untrigger track {shlex.quote(str(self.path))}`"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps runs out of the folder; UserError when one is at work in it."""
        with self._locked():
            yield

    def _check_unused(self, resume: bool) -> None:
        if resume:
            raise UserError(f"{self.path} holds no run to resume: start it without --resume")
        taken = [name for name in (*REPORTED, *WORKING) if (self.path / name).exists()]
        if taken:
            raise UserError(f"{self.path} already holds {', '.join(taken)} of another origin: choose another --output")

    def _delete(self, *names: str) -> None:
        for entry in (self.path / name for name in names):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)


def _kind(config: Mapping[str, Any]) -> str:
    """What a run with these settings is called."""
    return "a grid" if "attacks" in config else "a sweep" if "triggers" in config else "a run of one trigger"


def database_uri(path: Path) -> str:
    """The URI of an SQLite database."""
    # It has a meaning of its own for these two letters; and MLflow makes the folders of what is not decoded yet.
    return f"sqlite:///{quote(str(path), safe='') if {*'%?'} & {*str(path)} else path}"


def _by_content(value: Any, contents: Mapping[str, str]) -> Any:
    """Settings with what stands for the content in the place of each name."""
    if isinstance(value, dict):
        return {key: _by_content(inner, contents) for key, inner in value.items()}
    if isinstance(value, list):
        return [_by_content(inner, contents) for inner in value]
    return contents.get(value, value) if isinstance(value, str) else value
