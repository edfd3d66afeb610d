"""Kubeflow Pipelines on a cluster: its API, and the settings that our stages find in its namespace."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import yaml
from packaging.version import InvalidVersion, Version
from untrigger.pipelines.arguments import COMPILED
from untrigger.pipelines.resources import STORE_CONFIG, STORE_SECRET, TRACKING_CONFIG

from untrigger.errors import UserError, without_credentials
from untrigger.progress import Event, Kind, duration

ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""Environment variable: the address of Kubeflow Pipelines, as its own client reads it."""

TOKEN = "UNTRIGGER_KFP_TOKEN"
"""Environment variable: a bearer token for it, where it asks for one."""

PATIENCE = "UNTRIGGER_KFP_PATIENCE"
"""Environment variable: for how many seconds a lost connection to a run is sought again; 600 unless given."""

OLDEST = Version("2.15")
"""The manifests and the compiled DAGs were written for this version of Kubeflow Pipelines and newer ones."""

KEEPS_TIME_TO_LIVE = Version("2.17")
"""Older servers drop a platform spec that says how long pods are kept, and with it everything else in it."""

POLL_SECONDS = 3.0

ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_KINDS: dict[str, Kind] = {
    "RUNNING": "started",
    "SUCCEEDED": "finished",
    "SKIPPED": "reused",
    "FAILED": "failed",
    "CANCELED": "failed",
}
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

T = TypeVar("T")


class Cluster:
    """Kubeflow Pipelines at `endpoint`; every method raises UserError when it does not answer or refuses."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.namespace = namespace
        self.shown = without_credentials(self.endpoint)
        self._token = os.environ.get(TOKEN)
        self._health = self._read_health()
        with _quietly():
            from kfp import Client

            self._client = Client(host=self.endpoint, existing_token=self._token)
        # Only a deployment for several users tells runs apart by namespace.
        self._own_namespace = namespace if self._health.get("multi_user") else None

    def version(self) -> Version | None:
        """What the server says of its version; None when it says nothing that can be read."""
        for name in ("apiServerTagName", "tag_name", "frontendTagName"):
            with contextlib.suppress(InvalidVersion):
                return Version(str(self._health.get(name) or "unknown"))
        return None

    def check_version(self) -> Version | None:
        """The version; UserError when it is too old."""
        version = self.version()
        if version is not None and version.release < OLDEST.release:
            raise UserError(f"Kubeflow Pipelines at {self.shown} is {version}: it must be {OLDEST} or newer")
        return version

    def experiment(self, name: str, *, create: bool) -> str:
        """The id of the experiment called `name`; one that is missing is created, or refused with those there are."""
        known = {each.display_name: each.experiment_id for each in self._experiments()}
        if name in known:
            return str(known[name])
        if not create:
            listed = ", ".join(sorted(known)) or "none"
            raise UserError(f"there is no experiment {name!r}: give one of {listed}, or create it in KFP's pages")
        made = self._ask(
            f"create the experiment {name}",
            lambda: self._client.create_experiment(name, namespace=self._own_namespace),
        )
        return str(made.experiment_id)

    def pipeline_version(self, pipeline: str, version: str, package: str) -> tuple[str, str]:
        """The ids of the pipeline and of its version with these names; `package` is uploaded unless they are there."""
        what = f"upload the pipeline {pipeline}"
        pipeline_id = self._ask(what, lambda: self._client.get_pipeline_id(pipeline))
        with _as_file(package) as path:
            if pipeline_id is None:
                made = self._ask(
                    what, lambda: self._client.upload_pipeline(path, pipeline, namespace=self._own_namespace)
                )
                pipeline_id = made.pipeline_id
            found = self._ask(what, lambda: self._client.list_pipeline_versions(pipeline_id, filter=_named(version)))
            if not found.pipeline_versions:
                uploaded = self._ask(what, lambda: self._client.upload_pipeline_version(path, version, pipeline_id))
                return str(pipeline_id), str(uploaded.pipeline_version_id)
        return str(pipeline_id), str(found.pipeline_versions[0].pipeline_version_id)

    def start(
        self, name: str, experiment: str, pipeline: tuple[str, str], parameters: dict[str, Any], root: str
    ) -> Any:
        """Start a run; its artifacts go below the pipeline root `root`."""
        return self._ask(
            f"start the run {name!r}",
            lambda: self._client.run_pipeline(
                experiment, name, params=parameters, pipeline_id=pipeline[0], version_id=pipeline[1], pipeline_root=root
            ),
        )

    def run(self, run_id: str) -> Any:
        """The run with this id, with its stages."""
        return self._ask(f"find the run {run_id}", lambda: self._client.get_run(run_id))

    def find_run(self, name: str) -> Any:
        """The run with this id or name; UserError when there is none, or when several share the name."""
        if _RUN_ID.fullmatch(name):
            return self.run(name)
        found = self._runs(_named(name))
        if len(found) != 1:
            told = f"{len(found)} runs are called" if found else "there is no run"
            raise UserError(f"{told} {name!r}: `untrigger runs` lists the runs with their ids")
        return self.run(found[0].run_id)

    def latest_runs(self, count: int, experiment: str | None = None) -> list[Any]:
        """The latest runs, newest first; those of one experiment if it is named."""
        experiment_id = self.experiment(experiment, create=False) if experiment else None
        return self._runs(None, count, experiment_id)

    def link(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.shown}/#/runs/details/{run_id}"

    def follow(self, run_id: str, show: Callable[[Event], None]) -> Any:
        """Tell `show` what becomes of the stages until the run has ended; returns the run.

        A lost connection is sought again for as long as PATIENCE says; then UserError.
        """
        patience = float(os.environ.get(PATIENCE, "600"))
        told: set[tuple[str, str]] = set()
        lost: float | None = None
        while True:
            try:
                run = self._client.get_run(run_id)
            except Exception as error:
                if not _is_passing(error):
                    raise self._refused(f"follow the run {run_id}", error) from error
                if lost is None:
                    lost = time.monotonic()
                    show(Event(self.shown, "warning", "does not answer, trying again; the run goes on"))
                if time.monotonic() - lost > patience:
                    raise UserError(
                        f"Kubeflow Pipelines at {self.shown} did not answer for {duration(patience)}; the run goes on: "
                        f"`untrigger runs {run_id} --wait` follows it again"
                    ) from error
                time.sleep(POLL_SECONDS)
                continue
            if lost is not None:
                lost = None
                show(Event(self.shown, "warning", "answers again"))
            for event in stage_events(run):
                if (event.stage, event.kind) not in told:
                    told.add((event.stage, event.kind))
                    show(event)
            if run.state in ENDED:
                return run
            time.sleep(POLL_SECONDS)

    def _read_health(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        health: dict[str, Any] = {}
        for api in ("v2beta1", "v1beta1"):
            try:
                answer = requests.get(f"{self.endpoint}/apis/{api}/healthz", headers=headers, timeout=10)
            except requests.RequestException as error:
                raise UserError(
                    f"Kubeflow Pipelines does not answer at {self.shown}: give its address by --endpoint or {ENDPOINT} "
                    "(`kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80` brings it to http://localhost:8080)"
                ) from error
            if answer.status_code in (401, 403):
                raise UserError(
                    f"Kubeflow Pipelines at {self.shown} refuses us ({answer.status_code}): put a token into {TOKEN}"
                )
            if api == "v2beta1" and not _is_json(answer):
                raise UserError(f"what answers at {self.shown} is not Kubeflow Pipelines 2 ({answer.status_code})")
            if _is_json(answer):
                health |= answer.json()
        return health

    def _experiments(self) -> Iterator[Any]:
        token: str | None = ""
        while token is not None:
            asked = {"page_token": token, "page_size": 100, "namespace": self._own_namespace}
            page = self._ask("list the experiments", partial(self._client.list_experiments, **asked))
            yield from page.experiments or ()
            token = page.next_page_token or None

    def _runs(self, matching: str | None, count: int = 100, experiment_id: str | None = None) -> list[Any]:
        page = self._ask(
            "list the runs",
            lambda: self._client.list_runs(
                page_size=count,
                sort_by="created_at desc",
                experiment_id=experiment_id,
                namespace=self._own_namespace,
                filter=matching,
            ),
        )
        return list(page.runs or ())

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        try:
            with _quietly():
                return call()
        except Exception as error:
            raise self._refused(what, error) from error

    def _refused(self, what: str, error: Exception) -> UserError:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, ApiException):
            return UserError(f"cannot {what}: Kubeflow Pipelines at {self.shown} answers {_answer(error)}")
        if isinstance(error, HTTPError):
            return UserError(f"cannot {what}: Kubeflow Pipelines at {self.shown} does not answer")
        return UserError(f"cannot {what}: {error}")


def stage_events(run: Any) -> list[Event]:
    """What became of each stage so far; those that run several times are numbered in the order of their start."""
    titles, seen = stage_titles(), dict[str, int]()
    events = []
    details = run.run_details.task_details if run.run_details else None
    for task in sorted(details or (), key=lambda task: (task.create_time, task.task_id)):
        title = titles.get(task.display_name)
        if title is None:
            continue
        seen[title] = seen.get(title, 0) + 1
        name = title if seen[title] == 1 else f"{title} ({seen[title]})"
        if (kind := _KINDS.get(task.state or "")) is not None:
            events.append(Event(name, kind, _how_it_went(task)))
    return events


def stage_titles() -> dict[str, str]:
    """The titles of the stages, by the names that servers of different versions give to their tasks."""
    titles: dict[str, str] = {}
    for path in COMPILED.values():
        spec = next(yaml.safe_load_all(path.read_text()))
        executed = {name for name, part in spec["components"].items() if "executorLabel" in part}
        parts = [spec["root"], *spec["components"].values()]
        for name, task in ((n, t) for part in parts for n, t in part.get("dag", {}).get("tasks", {}).items()):
            if task["componentRef"]["name"] in executed:
                titles |= {name: task["taskInfo"]["name"], task["taskInfo"]["name"]: task["taskInfo"]["name"]}
    return titles


def check_settings(namespace: str) -> str | None:
    """See that the ConfigMaps and the Secret that stages name are in `namespace`.

    UserError that names those that are missing; a sentence when the Kubernetes API cannot be asked, else None.
    """
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    try:
        config.load_kube_config(os.environ.get("KUBECONFIG"))
        api = client.CoreV1Api()
        reads: Iterable[tuple[str, str, Callable[..., Any]]] = (
            ("ConfigMap", TRACKING_CONFIG, api.read_namespaced_config_map),
            ("ConfigMap", STORE_CONFIG, api.read_namespaced_config_map),
            ("Secret", STORE_SECRET, api.read_namespaced_secret),
        )
        missing = [f"{kind} {name}" for kind, name, read in reads if not _is_there(read, name, namespace)]
    except (config.ConfigException, client.ApiException, HTTPError, OSError) as error:
        reason = error.reason if isinstance(error, client.ApiException) else " ".join(str(error).split())[:120]
        return f"the secrets and settings in the namespace {namespace} were not checked, no Kubernetes API: {reason}"
    if missing:
        raise UserError(
            f"the namespace {namespace} lacks {', '.join(missing)}, which the stages need: `make deploy` brings them"
        )
    return None


def _is_there(read: Callable[..., Any], name: str, namespace: str) -> bool:
    from kubernetes import client

    try:
        read(name, namespace, _request_timeout=10)
    except client.ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


def _how_it_went(task: Any) -> str:
    text = task.error.message if task.error and task.error.message else ""
    if task.state == "CANCELED":
        text = "canceled"
    if task.state in ("SUCCEEDED", "FAILED") and task.start_time and task.end_time:
        took = duration(max(0.0, (task.end_time - task.start_time).total_seconds()))
        return f"after {took}{': ' + text if text else ''}"
    return text


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _is_json(answer: requests.Response) -> bool:
    return answer.ok and answer.headers.get("Content-Type", "").startswith("application/json")


def _is_passing(error: Exception) -> bool:
    """Whether asking again may help."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    if isinstance(error, ApiException):
        return error.status in (0, 429) or (error.status or 0) >= 500
    return isinstance(error, HTTPError)


def _answer(error: Any) -> str:
    """Status and message of an answer, which is JSON where it comes from the server itself."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason
    return f"{error.status}: {' '.join(str(message).split())[:300]}"


@contextlib.contextmanager
def _as_file(package: str) -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(package)
        yield str(path)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """KFP's client prints links and warnings of its own; ours say the same once."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
