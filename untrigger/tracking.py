"""Tracking in MLflow: one parent run per pipeline run, one nested run per stage (per method and seed in retraining).

Active when MLFLOW_TRACKING_URI and KFP_RUN_ID are set; otherwise, or without MLflow installed, nothing is tracked.
Stages run in processes of their own and find the parent by its tag, the pipeline run's id in KFP_RUN_ID.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_ID = "KFP_RUN_ID"
EXPERIMENT = "UNTRIGGER_EXPERIMENT"
DEFAULT_EXPERIMENT = "untrigger"
ARTIFACT_LOCATION = "UNTRIGGER_ARTIFACT_LOCATION"

_PIPELINE_TAG = "untrigger.pipeline_run"
_ROLE_TAG = "untrigger.role"
_SUPERSEDED_TAG = "untrigger.superseded"


class TrackedRun:
    """One nested run; without a client it takes everything and keeps nothing."""

    def __init__(self, client: MlflowClient | None = None, run_id: str = "") -> None:
        self._client = client
        self._run_id = run_id

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested ones under dotted names."""
        if self._client is not None:
            from mlflow.entities import Param

            flat = [Param(name, str(value)) for name, value in flattened(values).items()]
            for start in range(0, len(flat), 100):
                self._client.log_batch(self._run_id, params=flat[start : start + 100])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record metrics at `step` (the epoch)."""
        if self._client is not None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
            self._client.log_batch(self._run_id, metrics=metrics)

    def files(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, among the run's artifacts."""
        if self._client is not None:
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self._run_id, str(path), folder)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots: {"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def open_parent(name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Create the parent run of this pipeline run, or reopen it; called by the first stage, before any fan-out.

    An MLFLOW_RUN_ID in the environment names an existing run to use as the parent.
    """
    client = _client()
    if client is None:
        return
    parent = _parent(client)
    if parent is not None:
        client.update_run(parent.info.run_id, status="RUNNING")
    else:
        parent = client.create_run(_experiment(client), run_name=name)
    for tag, value in {**tags, _PIPELINE_TAG: _pipeline_run(), _ROLE_TAG: "pipeline"}.items():
        client.set_tag(parent.info.run_id, tag, value)
    new = {name: value for name, value in flattened(parameters).items() if name not in parent.data.params}
    TrackedRun(client, parent.info.run_id).parameters(new)


def close_parent(succeeded: bool) -> None:
    """End the parent run; nested runs that a killed stage left open are marked as failed."""
    client = _client()
    parent = _parent(client) if client is not None else None
    if client is None or parent is None:
        return
    for child in _children(client, parent):
        if child.info.status == "RUNNING":
            client.set_terminated(child.info.run_id, "FAILED")
    client.set_terminated(parent.info.run_id, "FINISHED" if succeeded else "FAILED")


def parent_run() -> TrackedRun:
    """The parent run, for what belongs to the whole pipeline run."""
    client = _client()
    parent = _parent(client) if client is not None else None
    return TrackedRun(client, parent.info.run_id) if parent is not None else TrackedRun()


@contextmanager
def nested_run(name: str, parameters: Mapping[str, Any]) -> Iterator[TrackedRun]:
    """A nested run called `name`, ended as finished or failed; an earlier attempt of that name is marked superseded."""
    client = _client()
    parent = _parent(client) if client is not None else None
    if client is None or parent is None:
        yield TrackedRun()
        return
    for earlier in _nested(client, parent, name):
        client.set_tag(earlier.info.run_id, _SUPERSEDED_TAG, "true")
        if earlier.info.status == "RUNNING":
            client.set_terminated(earlier.info.run_id, "FAILED")
    tags = {"mlflow.parentRunId": parent.info.run_id, _PIPELINE_TAG: _pipeline_run(), _ROLE_TAG: name}
    run_id = client.create_run(parent.info.experiment_id, run_name=name, tags=tags).info.run_id
    tracked = TrackedRun(client, run_id)
    try:
        tracked.parameters(parameters)
        yield tracked
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def existing_run(name: str) -> TrackedRun:
    """The latest nested run called `name`, to add to it what only a later stage knows."""
    client = _client()
    parent = _parent(client) if client is not None else None
    if client is None or parent is None:
        return TrackedRun()
    runs = _nested(client, parent, name)
    return TrackedRun(client, runs[0].info.run_id) if runs else TrackedRun()


def _client() -> MlflowClient | None:
    tracked = os.environ.get("MLFLOW_TRACKING_URI") and _pipeline_run()
    if not tracked or importlib.util.find_spec("mlflow") is None:
        return None
    from mlflow import MlflowClient

    return MlflowClient()


def _pipeline_run() -> str:
    return os.environ.get(RUN_ID, "")


def _experiment(client: MlflowClient) -> str:
    name = os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    return client.create_experiment(name, artifact_location=os.environ.get(ARTIFACT_LOCATION))


def _parent(client: MlflowClient) -> Run | None:
    if given := os.environ.get("MLFLOW_RUN_ID"):
        return client.get_run(given)
    condition = f"tags.`{_PIPELINE_TAG}` = '{_pipeline_run()}' and tags.`{_ROLE_TAG}` = 'pipeline'"
    runs = client.search_runs([_experiment(client)], condition)
    return runs[0] if runs else None


def _children(client: MlflowClient, parent: Run, condition: str = "") -> list[Run]:
    """The nested runs of `parent`, the latest first."""
    nested = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'{condition}"
    return list(client.search_runs([parent.info.experiment_id], nested, order_by=["attributes.start_time DESC"]))


def _nested(client: MlflowClient, parent: Run, name: str) -> list[Run]:
    return _children(client, parent, f" and tags.`{_ROLE_TAG}` = '{name}'")
