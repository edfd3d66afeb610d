"""Tracking: one parent run per pipeline run, one nested run per stage (per method and seed in retraining).

What is tracked leaves a stage as records, appended to the file that UNTRIGGER_TRACKING names. The process that started
the stages forwards them: a short stage need not import MLflow, a container needs no network. Where no such process is,
on a cluster, but MLFLOW_TRACKING_URI and KFP_RUN_ID are set and MLflow is installed, the stage forwards its own. Either
way `mlflow` does the writing. Otherwise nothing is tracked.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from untrigger.tracking.json_lines import append_line

TRACKING_URI = "MLFLOW_TRACKING_URI"
RUN_ID = "KFP_RUN_ID"
ARTIFACT_LOCATION = "UNTRIGGER_ARTIFACT_LOCATION"
RECORDS = "UNTRIGGER_TRACKING"
"""Environment variable: the file to which records are appended, for another process to forward."""

LAST_STAGES = ("evaluation", "aggregation", "gathered references", "verdicts", "defence", "grid report")
"""The stages that end a pipeline, by the names of their nested runs."""

PARENT = "parent"
"""The key of the parent run in records; nested runs have keys of their own."""


class TrackedRun:
    """One run, to which parameters, metrics and files are added."""

    def __init__(self, key: str) -> None:
        self._key = key

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names."""
        _record("parameters", run=self._key, values=values)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record metrics at `step` (the epoch)."""
        _record("metrics", run=self._key, values=values, step=step)

    def files(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, among the run's artifacts; it must stay until the pipeline ends."""
        _record("files", run=self._key, path=str(path.resolve()), folder=folder)


def open_parent(
    name: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    experiment: str = "",
    sweep: Mapping[str, Any] | None = None,
) -> None:
    """Create the parent run of this pipeline run, or reopen it; called by the first stage, before any fan-out.

    `experiment` is that of the environment when "". `sweep`, the fields of a SweepPart, nests the parent in a run for
    the whole of a divided sweep, which its first part creates. An MLFLOW_RUN_ID in the environment names an existing
    run to use as the parent.
    """
    _record("open_parent", name=name, parameters=parameters, tags=tags, experiment=experiment, sweep=sweep)


def close_parent(succeeded: bool | None) -> None:
    """End the parent run; nested runs that a killed stage left open are marked as failed.

    None, where nobody can tell: then it has succeeded when one of the `LAST_STAGES` has finished.
    """
    _record("close_parent", succeeded=succeeded)


def parent_run() -> TrackedRun:
    """The parent run, for what belongs to the whole pipeline run."""
    return TrackedRun(PARENT)


@contextmanager
def nested_run(name: str, parameters: Mapping[str, Any]) -> Iterator[TrackedRun]:
    """A nested run called `name`, ended as finished or failed; an earlier attempt of that name is marked superseded."""
    key = uuid.uuid4().hex
    _record("begin", run=key, name=name, parameters=parameters)
    try:
        yield TrackedRun(key)
    except BaseException:
        _record("end", run=key, succeeded=False)
        raise
    _record("end", run=key, succeeded=True)


def existing_run(name: str) -> TrackedRun:
    """The latest nested run called `name`, to add to it what only a later stage knows."""
    key = uuid.uuid4().hex
    _record("find", run=key, name=name)
    return TrackedRun(key)


def _record(kind: str, **values: Any) -> None:
    if path := os.environ.get(RECORDS):
        append_line(Path(path), {"kind": kind, "milliseconds": int(time.time() * 1000), **values})
