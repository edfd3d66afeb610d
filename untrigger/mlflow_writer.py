"""Writes the records of `tracking` to MLflow: as they come, or forwarded from a file that other processes fill."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from untrigger.errors import UserError, without_credentials
from untrigger.json_lines import following, read_new_lines
from untrigger.progress import Reporter
from untrigger.tracking import ARTIFACT_LOCATION, LAST_STAGES, PARENT

EXPERIMENT = "UNTRIGGER_EXPERIMENT"
DEFAULT_EXPERIMENT = "untrigger"

PATIENCE = "UNTRIGGER_TRACKING_PATIENCE"
"""Environment variable: seconds that the end of a run waits for an MLflow that went away.

Unless given, 30 where its records stay for `deliver`, and 300 for a stage on a cluster, where they would be lost.
"""

KNOWN_RUNS = "known_runs"
RETRY_SECONDS = 5.0
ATTEMPTS, FILE_ATTEMPTS = 60, 5
"""How often a record, or a file, is sent to a server that answers but is in trouble, before the next ones are tried.

Without its `begin` a run's later records mean nothing; files alone depend on the store behind the server.
"""

_PIPELINE_TAG = "untrigger.pipeline_run"
_ROLE_TAG = "untrigger.role"
_SUPERSEDED_TAG = "untrigger.superseded"
_REUSED_TAG = "untrigger.reused"
_REPORTER = Reporter("MLflow")


class MlflowWriter:
    """Applies records to the tracking server, or database, at `uri`.

    The parent run is found by its tag, the pipeline run's id, so that writers in different processes share it.
    """

    _experiment = ""

    def __init__(self, uri: str, pipeline_run: str) -> None:
        _set_up_client()
        self._uri = uri
        self._pipeline_run = pipeline_run
        self._runs: dict[str, Run] = {}

    def connect(self) -> None:
        """Find or create the experiment; UserError when the server does not answer or refuses."""
        try:
            self._client = MlflowClient(self._uri)
            self._experiment = self._find_experiment()
            self._parent()
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"cannot track in MLflow at MLFLOW_TRACKING_URI {without_credentials(self._uri)}: {reason}"
            ) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Apply one record; what belongs to a run that MLflow does not know is dropped."""
        if not self._experiment:
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
        if parent is not None:
            self._client.update_run(parent.info.run_id, status="RUNNING")
        else:
            start = record["milliseconds"]
            parent = self._client.create_run(self._experiment, start_time=start, run_name=record["name"])
        for tag, value in {**record["tags"], _PIPELINE_TAG: self._pipeline_run, _ROLE_TAG: "pipeline"}.items():
            self._client.set_tag(parent.info.run_id, tag, value)
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

    def _begin(self, parent: Run, record: Mapping[str, Any]) -> None:
        name, start = record["name"], record["milliseconds"]
        for earlier in self._nested(parent, name):
            self._client.set_tag(earlier.info.run_id, _SUPERSEDED_TAG, "true")
            if earlier.info.status == "RUNNING":
                self._end(earlier.info.run_id, False, start)
        run = self._create_nested(parent, name, start)
        self._runs[record["run"]] = run
        self._log_parameters(run.info.run_id, flattened(record["parameters"]))

    def _reused(self, parent: Run, record: Mapping[str, Any]) -> Run:
        """A run for a stage that did not run, since a cluster's cache had its outputs."""
        run = self._create_nested(parent, record["name"], record["milliseconds"])
        self._client.set_tag(run.info.run_id, _REUSED_TAG, "true")
        self._end(run.info.run_id, True, record["milliseconds"])
        return run

    def _create_nested(self, parent: Run, name: str, start: int) -> Run:
        tags = {"mlflow.parentRunId": parent.info.run_id, _PIPELINE_TAG: self._pipeline_run, _ROLE_TAG: name}
        return self._client.create_run(parent.info.experiment_id, start_time=start, tags=tags, run_name=name)

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

    def _find_experiment(self) -> str:
        name = os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(name, artifact_location=os.environ.get(ARTIFACT_LOCATION))

    def _parent(self) -> Run | None:
        if PARENT not in self._runs:
            if given := os.environ.get("MLFLOW_RUN_ID"):
                self._runs[PARENT] = self._client.get_run(given)
            else:
                condition = f"tags.`{_PIPELINE_TAG}` = '{self._pipeline_run}' and tags.`{_ROLE_TAG}` = 'pipeline'"
                if runs := self._client.search_runs([self._experiment], condition):
                    self._runs[PARENT] = runs[0]
        return self._runs.get(PARENT)

    def _children(self, parent: Run, condition: str = "") -> list[Run]:
        """The nested runs of `parent`, the latest first."""
        nested = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'{condition}"
        order = ["attributes.start_time DESC"]
        return list(self._client.search_runs([parent.info.experiment_id], nested, order_by=order))

    def _nested(self, parent: Run, name: str) -> list[Run]:
        return self._children(parent, f" and tags.`{_ROLE_TAG}` = '{name}'")


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots: {"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def check_server(uri: str) -> None:
    """UserError when there is no MLflow at `uri`."""
    MlflowWriter(uri, "").connect()


def _set_up_client() -> None:
    """MLflow's client would retry for minutes, where here records wait; and it would print every run it ends."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@contextmanager
def forwarding(records: Path, uri: str, pipeline_run: str) -> Iterator[None]:
    """Write the records that other processes append to `records` as they come, until the block ends.

    Raises UserError when MLflow does not answer at the beginning. When it goes away later, records wait for it; those
    that it has not taken soon after the block stay in `records`, to be forwarded another time. Otherwise the file goes.
    A record that MLflow refuses is reported and left out. The block goes on: its results do not depend on it.
    """
    writer = MlflowWriter(uri, pipeline_run)
    writer.connect()
    forwarder = _Forwarder(writer, own_folder=records.parent)
    try:
        with following(records, forwarder.take):
            yield
    finally:
        _keep(forwarder.finish(_patience(30)), writer, records)


@contextmanager
def forwarding_own(records: Path, uri: str, pipeline_run: str, *, patiently: bool) -> Iterator[None]:
    """Write the records that this process appends to `records` as they come, until the block ends.

    As `forwarding`, but with `patiently` an MLflow that is away at the beginning is waited for, too. What it has not
    taken some minutes after the block is lost, which a warning says, or, unless `patiently`, a UserError.
    """
    writer = MlflowWriter(uri, pipeline_run)
    try:
        writer.connect()
    except UserError as error:
        if not patiently or not (_is_away(error) or _is_in_trouble(error)):
            raise
        _REPORTER.say("warning", str(error))
    # The records are this very process's own: their files may lie anywhere.
    forwarder = _Forwarder(writer, own_folder=None)
    try:
        with following(records, forwarder.take):
            yield
    finally:
        lost = len(forwarder.finish(_patience(300))) + forwarder.refused
        if lost:
            _REPORTER.say("warning", f"{lost} records are lost: {without_credentials(uri)} did not take them")
    if lost and not patiently:
        raise UserError(f"MLflow at {without_credentials(uri)} did not take what must be there before the work begins")


def deliver(records: Path, uri: str, pipeline_run: str) -> int:
    """Write the records that `forwarding` left in `records`; how many there were.

    Raises UserError when MLflow is not the one that they wait for, does not answer, or goes away again.
    """
    with records.open() as file:
        first, *waiting = read_new_lines(file)
    writer = MlflowWriter(uri, pipeline_run)
    writer.connect()
    writer.take_up(first)
    forwarder = _Forwarder(writer, own_folder=records.parent)
    for record in waiting:
        forwarder.take(record)
    left = forwarder.finish(_patience(30))
    _keep(left, writer, records)
    if left:
        raise UserError(f"{len(left)} of {len(waiting)} records are still not delivered and stay in {records}")
    return len(waiting)


def _keep(records: Sequence[Mapping[str, Any]], writer: MlflowWriter, path: Path) -> None:
    """Leave undelivered records in the file at `path` for `deliver`; without any, the file goes."""
    if not records:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in (writer.known_runs(), *records)))
    partial.replace(path)
    _REPORTER.say(
        "warning",
        f"{len(records)} records are not delivered and lie in {path}: "
        f"`untrigger track {shlex.quote(str(path.parent))}` delivers them when the server is back",
    )


def _patience(default: float) -> float:
    return float(os.environ.get(PATIENCE, default))


class _Forwarder:
    """Hands records to the writer in their order; keeps them while MLflow is away.

    Only files in `own_folder` are sent, if one is given. `refused` counts the records that MLflow will never take.
    """

    def __init__(self, writer: MlflowWriter, own_folder: Path | None) -> None:
        self.refused = 0
        self._writer = writer
        self._own_folder = own_folder
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._set_aside: list[Mapping[str, Any]] = []
        self._attempts = 0
        self._not_before = 0.0

    def take(self, record: Mapping[str, Any]) -> None:
        # Stages run what they do not trust: their records may name any file.
        own = self._own_folder
        if own and record["kind"] == "files" and not Path(record["path"]).resolve().is_relative_to(own):
            _REPORTER.say("warning", f"not tracked: {record['path']} lies outside the run")
            return
        self._waiting.append(record)
        if time.monotonic() >= self._not_before:
            self._deliver()

    def finish(self, patience: float) -> list[Mapping[str, Any]]:
        """Wait some seconds for a server that is away; the records that it has not taken then."""
        deadline = time.monotonic() + patience
        self._waiting.extend(self._set_aside)
        self._set_aside.clear()
        self._deliver()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(1)
            self._deliver()
        return [*self._set_aside, *self._waiting]

    def _deliver(self) -> None:
        while self._waiting:
            record = self._waiting[0]
            try:
                self._writer.write(record)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                attempts = FILE_ATTEMPTS if record["kind"] == "files" else ATTEMPTS
                if _is_away(error) or (_is_in_trouble(error) and self._attempts < attempts):
                    self._attempts += not _is_away(error)
                    if not self._not_before:
                        _REPORTER.say("warning", f"does not answer, records wait for it: {reason}")
                    self._not_before = time.monotonic() + RETRY_SECONDS
                    return
                if _is_in_trouble(error):
                    self._set_aside.append(record)
                else:
                    self.refused += 1
                    _REPORTER.say("warning", f"not tracked: {record['kind']}: {reason}")
            self._waiting.popleft()
            self._attempts = 0
        if self._not_before:
            _REPORTER.say("warning", "answers again")
            self._not_before = 0.0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_away(error: BaseException) -> bool:
    """Whether the server could not be reached."""
    return any(isinstance(link, requests.ConnectionError | requests.Timeout) for link in _chain(error))


def _is_in_trouble(error: BaseException) -> bool:
    """Whether the server, or what stands before or behind it, says that it cannot just now."""
    for link in _chain(error):
        if isinstance(link, requests.exceptions.RetryError):
            return True
        if isinstance(link, requests.HTTPError) and link.response is not None:
            return link.response.status_code >= 500 or link.response.status_code == 429
        if isinstance(link, MlflowException):
            return link.get_http_status_code() >= 500 and str(link).startswith(("INTERNAL_ERROR", "TEMPORARILY", "API"))
    return False
