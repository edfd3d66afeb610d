"""Writes the records of `records` to MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException

from untrigger.errors import UserError, without_credentials
from untrigger.settings.base import flattened
from untrigger.tracking.records import ARTIFACT_LOCATION, LAST_STAGES, PARENT

EXPERIMENT = "UNTRIGGER_EXPERIMENT"
DEFAULT_EXPERIMENT = "untrigger"
LOCKED_SECONDS = 60
"""How long a database that another program has locked is waited for at the beginning."""

KNOWN_RUNS = "known_runs"
_KINDS = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")
_PIPELINE_TAG = "untrigger.pipeline_run"
_ROLE_TAG = "untrigger.role"
_PIPELINE, _SWEEP = "pipeline", "sweep"
"""The roles of the run of a pipeline, and of the run for the whole of a divided sweep."""

_RECORD_TAG = "untrigger.record"
"""The key of a nested run in its records, which find it when they come again after their writer was killed."""

_PARENT_TAG = "mlflow.parentRunId"
_SWEEP_TAG, _PART_TAG, _PARTS_TAG = "untrigger.sweep", "untrigger.part", "untrigger.parts"
SWEEP_SECONDS = 300.0
"""How long the other parts of a divided sweep wait for the first one to open the run for all."""

_SUPERSEDED_TAG = "untrigger.superseded"
_REUSED_TAG = "untrigger.reused"


class MlflowWriter:
    """Applies records to the tracking server, or database, at `uri`.

    The parent run is found by its tag, the pipeline run's id, so that writers in different processes share it.
    """

    _connected = False

    def __init__(self, uri: str, pipeline_run: str) -> None:
        _set_up_client()
        self._uri = uri
        self._pipeline_run = pipeline_run
        self._runs: dict[str, Run] = {}

    def connect(self) -> None:
        """UserError when the server does not answer or refuses, or has deleted the experiment of the environment."""
        where = f"cannot track in MLflow at MLFLOW_TRACKING_URI {without_credentials(self._uri)}"
        kind = (urlsplit(self._uri).scheme or self._uri).partition("+")[0]
        if kind not in _KINDS and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
            raise UserError(f"{where}: give a server (http://HOST:PORT) or a database (sqlite:///mlflow.db)")
        deadline = time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                self._client = MlflowClient(self._uri)
                self._find_experiment(os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT))
                self._parent()
                self._connected = True
                return
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
            except Exception as error:
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise UserError(f"{where}: {' '.join(str(error).split())[:300]}") from error
                time.sleep(1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Apply one record; what belongs to a run that MLflow does not know is dropped."""
        if not self._connected:
            self.connect()
        kind = record["kind"]
        if kind == "open_parent":
            self._open_parent(record)
        elif (parent := self._parent()) is not None:
            if kind == "close_parent":
                self._close_parent(parent, record)
            elif kind == "begin":
                self._begin(parent, record)
            elif kind == "find":
                found = self._nested(parent, record["name"])
                self._runs[record["run"]] = found[0] if found else self._reused(parent, record)
            elif record["run"] in self._runs:
                self._add(self._runs[record["run"]].info.run_id, record)

    def close_left_open(self) -> bool:
        """End the parent, as failed, with the nested runs that are open; whether it was open. Raises as `connect`."""
        self.connect()
        parent = self._parent()
        if parent is None or parent.info.status != "RUNNING":
            return False
        self._close_parent(parent, {"succeeded": False, "milliseconds": int(time.time() * 1000)})
        return True

    def known_runs(self) -> dict[str, Any]:
        """A record of the runs that earlier records began, for another writer to go on with the later ones."""
        runs = {key: run.info.run_id for key, run in self._runs.items()}
        return {"kind": KNOWN_RUNS, "server": without_credentials(self._uri), "runs": runs}

    def take_up(self, known: Mapping[str, Any]) -> None:
        """Know the runs of `known_runs`; UserError when this is another server, or when it has them no more."""
        if known["server"] != without_credentials(self._uri):
            raise UserError(f"the records wait for the server at {known['server']}: set MLFLOW_TRACKING_URI to it")
        try:
            self._runs |= {key: self._client.get_run(run_id) for key, run_id in known["runs"].items()}
        except MlflowException as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the server at {known['server']} does not give the records' runs: {reason}") from error

    def _open_parent(self, record: Mapping[str, Any]) -> None:
        parent = self._parent()
        tags = {**record["tags"], _PIPELINE_TAG: self._pipeline_run, _ROLE_TAG: _PIPELINE}
        if record.get("sweep"):
            tags |= self._part_tags(record)
        if parent is not None:
            self._client.update_run(parent.info.run_id, status="RUNNING")
            for tag, value in tags.items():
                self._client.set_tag(parent.info.run_id, tag, value)
        else:
            # With its tags at once: whatever fails after this, another attempt finds the run by them.
            start = record["milliseconds"]
            parent = self._client.create_run(
                self._experiment(record), start_time=start, tags=tags, run_name=record["name"]
            )
        new = {name: v for name, v in flattened(record["parameters"]).items() if name not in parent.data.params}
        self._log_parameters(parent.info.run_id, new)

    def _close_parent(self, parent: Run, record: Mapping[str, Any]) -> None:
        succeeded = record["succeeded"]
        if succeeded is None:
            last = [run for name in LAST_STAGES for run in self._nested(parent, name)]
            succeeded = any(run.info.status == "FINISHED" for run in last)
        for child in self._children(parent):
            if child.info.status == "RUNNING":
                self._end(child.info.run_id, False, record["milliseconds"])
        self._end(parent.info.run_id, succeeded, record["milliseconds"])
        if _SWEEP_TAG in parent.data.tags and (above := parent.data.tags.get(_PARENT_TAG)):
            self._close_sweep(self._client.get_run(above), record["milliseconds"])

    def _part_tags(self, record: Mapping[str, Any]) -> dict[str, str]:
        """What sets a part of a divided sweep below the run for all; an earlier attempt at it is marked superseded."""
        part, number = record["sweep"], str(record["sweep"]["number"])
        tags = {_SWEEP_TAG: part["id"], _PART_TAG: number}
        above = self._sweep_run(record)
        if above is None:
            return tags
        self._client.update_run(above.info.run_id, status="RUNNING")
        for earlier in self._children(above, f" and tags.`{_PART_TAG}` = '{number}'"):
            if earlier.data.tags[_PIPELINE_TAG] != self._pipeline_run:
                self._client.set_tag(earlier.info.run_id, _SUPERSEDED_TAG, "true")
        return {**tags, _PARENT_TAG: above.info.run_id}

    def _sweep_run(self, record: Mapping[str, Any]) -> Run | None:
        """The run for the whole sweep, which the first part creates: MLflow could not keep two from creating it."""
        part, tags = record["sweep"], {_SWEEP_TAG: record["sweep"]["id"], _ROLE_TAG: _SWEEP}
        deadline = time.monotonic() + SWEEP_SECONDS
        while not (found := self._tagged_runs(tags)):
            if part["number"] == 1:
                # What else is tagged is the part's own.
                shared = {name: record["tags"][name] for name in ("dataset",) if name in record["tags"]}
                return self._client.create_run(
                    self._experiment(record),
                    start_time=record["milliseconds"],
                    tags={**shared, **tags, _PARTS_TAG: str(part["count"])},
                    run_name=part["name"],
                )
            if time.monotonic() > deadline:
                return None
            time.sleep(min(2.0, SWEEP_SECONDS / 10))
        return found[0]

    def _close_sweep(self, above: Run, milliseconds: int) -> None:
        """End the run for the whole sweep when the last of its parts has ended."""
        latest = [part for part in self._children(above) if _SUPERSEDED_TAG not in part.data.tags]
        statuses = {part.info.status for part in latest}
        if len(latest) == int(above.data.tags[_PARTS_TAG]) and "RUNNING" not in statuses:
            self._end(above.info.run_id, statuses == {"FINISHED"}, milliseconds)

    def _begin(self, parent: Run, record: Mapping[str, Any]) -> None:
        name, start, key = record["name"], record["milliseconds"], record["run"]
        if key not in self._runs:
            there = self._nested(parent, name)
            known = [run for run in there if run.data.tags.get(_RECORD_TAG) == key]
            for earlier in [] if known else there:
                self._client.set_tag(earlier.info.run_id, _SUPERSEDED_TAG, "true")
                if earlier.info.status == "RUNNING":
                    self._end(earlier.info.run_id, False, start)
            self._runs[key] = known[0] if known else self._create_nested(parent, name, start, {_RECORD_TAG: key})
        self._log_parameters(self._runs[key].info.run_id, flattened(record["parameters"]))

    def _reused(self, parent: Run, record: Mapping[str, Any]) -> Run:
        """A run for a stage that did not run, since a cluster's cache had its outputs."""
        run = self._create_nested(parent, record["name"], record["milliseconds"], {_REUSED_TAG: "true"})
        self._end(run.info.run_id, True, record["milliseconds"])
        return run

    def _create_nested(self, parent: Run, name: str, start: int, tags: Mapping[str, str]) -> Run:
        own = {_PARENT_TAG: parent.info.run_id, _PIPELINE_TAG: self._pipeline_run, _ROLE_TAG: name, **tags}
        return self._client.create_run(parent.info.experiment_id, start_time=start, tags=own, run_name=name)

    def _add(self, run_id: str, record: Mapping[str, Any]) -> None:
        if record["kind"] == "end":
            self._end(run_id, record["succeeded"], record["milliseconds"])
        elif record["kind"] == "parameters":
            self._log_parameters(run_id, flattened(record["values"]))
        elif record["kind"] == "metrics":
            values, now, step = record["values"], record["milliseconds"], record["step"]
            metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
            self._client.log_batch(run_id, metrics=metrics)
        elif record["kind"] == "files":
            path = Path(record["path"])
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(run_id, str(path), record["folder"])

    def _end(self, run_id: str, succeeded: bool, milliseconds: int) -> None:
        self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED", milliseconds)

    def _log_parameters(self, run_id: str, values: Mapping[str, Any]) -> None:
        parameters = [Param(name, str(value)) for name, value in values.items()]
        for start in range(0, len(parameters), 100):
            self._client.log_batch(run_id, params=parameters[start : start + 100])

    def _experiment(self, record: Mapping[str, Any]) -> str:
        """The id of the experiment that a parent is opened in, created when it is missing."""
        name = record.get("experiment") or os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT)
        found = self._find_experiment(name)
        return found or self._client.create_experiment(name, artifact_location=os.environ.get(ARTIFACT_LOCATION))

    def _find_experiment(self, name: str) -> str | None:
        """None when there is none; UserError when it is deleted."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(
                f"the experiment {name!r} is deleted there: bring it back with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or let {EXPERIMENT} or --experiment name another"
            )
        return str(found.experiment_id)

    def _tagged_runs(self, tags: Mapping[str, str]) -> list[Run]:
        """The runs with these tags, in whichever experiment they are."""
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        experiments = [each.experiment_id for each in self._client.search_experiments()]
        return list(self._client.search_runs(experiments, condition))

    def _parent(self) -> Run | None:
        if PARENT not in self._runs:
            if given := os.environ.get("MLFLOW_RUN_ID"):
                self._runs[PARENT] = self._given_run(given)
            elif runs := self._tagged_runs({_PIPELINE_TAG: self._pipeline_run, _ROLE_TAG: _PIPELINE}):
                self._runs[PARENT] = runs[0]
        return self._runs.get(PARENT)

    def _given_run(self, run_id: str) -> Run:
        try:
            found = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise UserError(f"MLFLOW_RUN_ID names {run_id!r}, and there is no such run: unset it") from error
        if found.info.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(f"MLFLOW_RUN_ID names {run_id!r}, and that run is deleted there: unset it")
        return found

    def _children(self, parent: Run, condition: str = "") -> list[Run]:
        """The nested runs of `parent`, the latest first."""
        nested = f"tags.`{_PARENT_TAG}` = '{parent.info.run_id}'{condition}"
        order = ["attributes.start_time DESC"]
        return list(self._client.search_runs([parent.info.experiment_id], nested, order_by=order))

    def _nested(self, parent: Run, name: str) -> list[Run]:
        return self._children(parent, f" and tags.`{_ROLE_TAG}` = '{name}'")


def check_server(uri: str) -> None:
    """UserError when there is no MLflow at `uri`."""
    MlflowWriter(uri, "").connect()


def close_left_open(uri: str, pipeline_runs: Iterable[str]) -> list[str]:
    """End, as failed, what these pipeline runs left open, which ended without their last stage; those that did.

    UserError when there is no MLflow at `uri`.
    """
    return [each for each in pipeline_runs if MlflowWriter(uri, each).close_left_open()]


def _set_up_client() -> None:
    """MLflow's client would retry for minutes, where here records wait; and it would print every run it ends."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_away(error: BaseException) -> bool:
    """Whether the server could not be reached."""
    return any(isinstance(link, requests.ConnectionError | requests.Timeout) for link in _chain(error))


def is_in_trouble(error: BaseException) -> bool:
    """Whether the server, or what stands before or behind it, says that it cannot just now."""
    for link in _chain(error):
        if isinstance(link, requests.exceptions.RetryError):
            return True
        if isinstance(link, requests.HTTPError) and link.response is not None:
            return link.response.status_code >= 500 or link.response.status_code == 429
        if isinstance(link, MlflowException):
            if link.error_code == "TEMPORARILY_UNAVAILABLE":
                return True  # What a database says that another program has locked.
            return link.get_http_status_code() >= 500 and str(link).startswith(("INTERNAL_ERROR", "TEMPORARILY", "API"))
    return False
