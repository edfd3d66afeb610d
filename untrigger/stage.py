"""What every stage has in common: threads, progress, tracking, errors, and reuse of finished work.

A stage is a function decorated with `@stage`. The annotations of its keyword arguments say what they are: `InFolder`
and `InFolders` are artifacts it reads, `OutFolder` are artifacts it writes, the rest are parameters.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType, get_type_hints

from untrigger import __version__
from untrigger.artifacts import write_json
from untrigger.errors import UserError
from untrigger.progress import Reporter
from untrigger.tracking import TrackedRun, existing_run, forwarding_own_records, nested_run, parent_run

if TYPE_CHECKING:
    import torch

InFolder = NewType("InFolder", Path)
InFolders = NewType("InFolders", tuple[Path, ...])
OutFolder = NewType("OutFolder", Path)

STORE = "UNTRIGGER_STAGES"
"""Environment variable: the folder that keeps the outputs of finished stages, to be reused by a later attempt."""

THREADS = "UNTRIGGER_THREADS"
"""Environment variable: a JSON object that gives the threads of stages by name; torch decides for the others."""


class Log:
    """How a stage at work reports: progress lines for a person, metrics per epoch for MLflow."""

    def __init__(self, title: str, parameters: Mapping[str, Any], label: str = "") -> None:
        self._label = label
        self.reporter = Reporter(self._labelled(title))
        self._title = title
        self._parameters = parameters

    @contextmanager
    def run(self, name: str | None = None, **parameters: Any) -> Iterator[TrackedRun]:
        """A nested run for the stage, or for the part of it called `name` with parameters of its own."""
        with nested_run(self._labelled(name or self._title), {**self._parameters, **parameters}) as tracked:
            yield tracked

    def existing_run(self, name: str) -> TrackedRun:
        """The latest nested run called `name` of an earlier stage, to add to it what only a later stage knows."""
        return existing_run(self._labelled(name))

    def summary_run(self, own: TrackedRun) -> TrackedRun:
        """Where the results of all stages belong: the parent run, or `own` where the parent has several such parts."""
        return own if self._label else parent_run()

    def epochs(
        self, tracked: TrackedRun, total: int, *, before: int = 0, part: str = ""
    ) -> Callable[[int, dict[str, float]], None]:
        """A callback for the training loops: one progress line and one point per metric for each epoch.

        `total` epochs make the stage, `before` of them belong to earlier parts of it; `part` names this one.
        """
        self.reporter.begin("epoch")

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            tracked.metrics(metrics, epoch)
            shown = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics.items()]
            self.reporter.step("epoch", before + epoch, total, ", ".join([part, *shown] if part else shown))

        return on_epoch

    def _labelled(self, title: str) -> str:
        return f"{self._label}: {title}" if self._label else title


def stage(
    title: str, *, reusable: bool = True, requires_tracking: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function of (log, **artifacts and parameters) a stage that a component or a test calls.

    `title` may name parameters in braces ("retraining {method}"). `reusable`: its outputs depend on its arguments
    alone, so a later attempt may reuse them. `requires_tracking`: it fails where MLflow is asked for and away, which
    others wait for. Artifacts are given as paths or strings. A further argument `label` sets the stage apart from those
    of the same title, in progress and tracking; its work never sees it. A UserError ends the process with one sentence
    and status 2.
    """

    def decorate(work: Callable[..., None]) -> Callable[..., None]:
        name = work.__module__.rpartition(".")[2]
        kinds = {name: kind for name, kind in get_type_hints(work).items() if name not in ("log", "return")}

        @functools.wraps(work)
        def run(label: str = "", **arguments: Any) -> None:
            arguments = {name: _as_kind(kinds[name], value) for name, value in arguments.items()}
            outputs = {name: value for name, value in arguments.items() if kinds[name] is OutFolder}
            inputs = {name: value for name, value in arguments.items() if kinds[name] in (InFolder, InFolders)}
            parameters = {n: v for n, v in arguments.items() if n not in outputs and n not in inputs}
            log = Log(title.format_map(arguments), parameters, label)
            with _failures_reported(log.reporter), forwarding_own_records(patiently=not requires_tracking):
                kept = _kept_folder(name, inputs, parameters) if reusable else None
                if kept is not None and kept.exists():
                    _link_all({name: kept / name for name in outputs}, outputs)
                    (kept / "stage.json").touch()
                    log.reporter.say("reused")
                    return
                log.reporter.say("started")
                _limit_threads(name)
                for folder in outputs.values():
                    folder.mkdir(parents=True, exist_ok=True)
                work(log, **arguments)
                if kept is not None:
                    _keep(outputs, kept, name)
            log.reporter.say("finished", f"with {_peak_memory()} of memory at most")

        return run

    return decorate


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kept_outputs(store: Path, name: str) -> Path | None:
    """The folder that keeps the outputs of the stage called `name`, the last used if there are several."""
    marks = sorted(store.glob(f"{name}-*/stage.json"), key=lambda mark: mark.stat().st_mtime)
    return marks[-1].parent if marks else None


@contextmanager
def _failures_reported(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        reporter.say("failed", _one_line(error))
        sys.exit(2)
    except Exception as error:
        reporter.say("failed", f"{type(error).__name__}: {_one_line(error)}")
        raise


def _peak_memory() -> str:
    """What this process has held at most, and of a GPU's memory where it used one: what such a stage must be given."""
    told = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:,.0f} MB"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        told += f" and {torch.cuda.max_memory_allocated() / 1e6:,.0f} MB of GPU"
    return told


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _as_kind(kind: Any, value: Any) -> Any:
    if kind in (InFolder, OutFolder):
        return Path(value)
    return tuple(Path(item) for item in value) if kind is InFolders else value


def _limit_threads(name: str) -> None:
    threads = json.loads(os.environ.get(THREADS, "{}"))
    if name in threads:
        import torch

        torch.set_num_threads(threads[name])


def _kept_folder(name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Path | None:
    """Where the outputs of this very call are kept: named by version, inputs and parameters.

    Files that a parameter names by path are not looked into: a resumed run checks that they are the same.
    """
    store = os.environ.get(STORE)
    if not store:
        return None
    described = {
        "version": __version__,
        "inputs": {
            key: [_digest(path) for path in (value if isinstance(value, tuple) else (value,))]
            for key, value in inputs.items()
        },
        "parameters": parameters,
    }
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return Path(store) / f"{name}-{fingerprint[:16]}"


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return total.hexdigest()


def _keep(outputs: Mapping[str, Path], kept: Path, name: str) -> None:
    """Keep the outputs under `kept`, which appears whole or not at all."""
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    _link_all(outputs, {output: partial / output for output in outputs})
    write_json(partial / "stage.json", {"stage": name, "outputs": sorted(outputs)})
    partial.rename(kept)


def _link_all(sources: Mapping[str, Path], targets: Mapping[str, Path]) -> None:
    for name, source in sources.items():
        targets[name].mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, targets[name], copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    """Link, since outputs are never changed in place; copy where the file system cannot."""
    try:
        os.link(source, target)
    except FileExistsError:
        Path(target).unlink()
        _link(source, target)
    except OSError:
        shutil.copy2(source, target)
