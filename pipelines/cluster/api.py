"""Kubeflow Pipelines on a cluster: its API."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api
import requests
from packaging.version import InvalidVersion, Version
from urllib3.exceptions import HTTPError

from untrigger.errors import UserError, without_credentials
from untrigger.pipelines.cluster.namespace import Namespace, NoAccess
from untrigger.pipelines.cluster.states import GOING_ON, stage_events
from untrigger.pipelines.cluster.whole import ClusterRun, WholeRun, taken_together
from untrigger.pipelines.cluster.workflow import Stage, Workflow
from untrigger.runs.stored_reports import RUN_ID
from untrigger.settings.runs import SweepConfig
from untrigger.settings.tracked import SweepPart
from untrigger.tracking.progress import Event, duration

TOKEN = "UNTRIGGER_KFP_TOKEN"
"""Environment variable: a bearer token for Kubeflow Pipelines, where it asks for one."""

PATIENCE = "UNTRIGGER_KFP_PATIENCE"
"""Environment variable: for how many seconds a lost connection to a run is sought again; 600 unless given."""

OLDEST = Version("2.16")
"""Older servers refuse the platform spec of the compiled DAGs: they do not know its security context."""

POLL_SECONDS = 5.0
TIMEOUT_SECONDS = (5, 60)
"""For a connection, and for an answer."""

PAGE = 200
"""The most that a server lists at once."""

UNCHANGED_SECONDS = 120.0
"""After so long without a change the workflow of a run is looked for, and then again after as long."""

_NUMBERED = re.compile(r" #(\d+)$")


class LostRun(UserError):
    """KFP calls the run with `run_id` running, and its workflow is gone."""

    def __init__(self, run_id: str, told: str) -> None:
        super().__init__(told)
        self.run_id = run_id


@dataclass
class _Followed:
    """A run that is followed: as it was last seen, what was told of it, and when that changed."""

    id: str
    run: ClusterRun | None = None
    told: set[tuple[str, str, str]] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    changed: float = field(default_factory=time.monotonic)


class Cluster:
    """Kubeflow Pipelines at `endpoint`; every method raises UserError when it does not answer or refuses."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.shown = without_credentials(endpoint.rstrip("/"))
        self._namespace = namespace
        self._patience = _seconds(PATIENCE, 600)
        token = os.environ.get(TOKEN)
        self._endpoint = endpoint.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._health = self._read_health()
        settings = kfp_server_api.Configuration(host=self._endpoint)
        if token:
            settings.api_key, settings.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
        client = kfp_server_api.ApiClient(settings)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._pipelines = kfp_server_api.PipelineServiceApi(client)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(client)
        self._runs = kfp_server_api.RunServiceApi(client)
        # Only a deployment for several users tells things apart by namespace.
        self._own: dict[str, str] = {"namespace": namespace} if self._health.get("multi_user") else {}

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
        list_them = self._experiments.experiment_service_list_experiments
        listed = self._all("list the experiments", list_them, "experiments", **self._own)
        known = {each.display_name: str(each.experiment_id) for each in listed}
        if name in known:
            return known[name]
        if not create:
            there = ", ".join(sorted(known)) or "none"
            raise UserError(f"there is no experiment {name!r}: give one of {there}, or create it in KFP's pages")
        wanted = kfp_server_api.V2beta1Experiment(display_name=name, **self._own)
        create_it = self._experiments.experiment_service_create_experiment
        return str(self._ask(f"create the experiment {name}", create_it, experiment=wanted).experiment_id)

    def pipeline_version(self, pipeline: str, version: str, package: str) -> tuple[str, str]:
        """The ids of the pipeline and of its version with these names; `package` is uploaded unless they are there."""
        what, pipelines = f"upload the pipeline {pipeline}", self._pipelines
        listed = self._ask(what, pipelines.pipeline_service_list_pipelines, filter=_named(pipeline), **self._own)
        if listed.pipelines:
            pipeline_id = str(listed.pipelines[0].pipeline_id)
        else:
            wanted = kfp_server_api.V2beta1Pipeline(name=pipeline, display_name=pipeline, **self._own)
            pipeline_id = str(self._ask(what, pipelines.pipeline_service_create_pipeline, pipeline=wanted).pipeline_id)
        versions = self._ask(
            what, pipelines.pipeline_service_list_pipeline_versions, pipeline_id=pipeline_id, filter=_named(version)
        )
        if versions.pipeline_versions:
            return pipeline_id, str(versions.pipeline_versions[0].pipeline_version_id)
        with _as_file(package) as path:
            upload = self._uploads.upload_pipeline_version
            uploaded = self._ask(what, upload, uploadfile=path, name=version, pipelineid=pipeline_id)
        return pipeline_id, str(uploaded.pipeline_version_id)

    def start(
        self, name: str, experiment: str, pipeline: tuple[str, str], parameters: Mapping[str, Any], root: str
    ) -> str:
        """Start a run, whose id comes back; its artifacts go below the pipeline root `root`."""
        wanted = kfp_server_api.V2beta1Run(
            experiment_id=experiment,
            display_name=name,
            pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(*pipeline),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(parameters), pipeline_root=root),
        )
        return str(self._ask(f"start the run {name!r}", self._runs.run_service_create_run, run=wanted).run_id)

    def start_again(self, run_id: str) -> str:
        """Start a run once more, with the same pipeline, parameters and place; the id of the new one.

        UserError for a run that goes on, unless its workflow was deleted, and for one that `submit` did not start.
        """
        run = self.run(run_id)
        self._check_ended(run)
        told = self._ask(f"find the run {run_id}", self._runs.run_service_get_run, run_id=run_id)
        version = told.pipeline_version_reference
        if not run.root or version is None:
            raise UserError(f"the run {run_id} was not started by `untrigger submit`: start it again in KFP's pages")
        number = _NUMBERED.search(run.name)
        name = f"{_NUMBERED.sub('', run.name)} #{int(number[1]) + 1 if number else 2}"
        uploaded, parameters = (version.pipeline_id, version.pipeline_version_id), dict(told.runtime_config.parameters)
        if "tracking" in parameters:
            parameters["tracking"] = {**parameters["tracking"], "name": name}
        return self.start(name, told.experiment_id, uploaded, parameters, run.root)

    def start_whole_again(self, run: WholeRun) -> list[str]:
        """Start again what of a run has not succeeded, or all where all has; the ids of all its parts.

        UserError as `start_again` raises it, before anything is started where a part goes on.
        """
        left = [part for part in run.parts if run.state == "SUCCEEDED" or part.state != "SUCCEEDED"]
        for part in left:
            self._check_ended(part)
        return [self.start_again(part.id) if part in left else part.id for part in run.parts]

    def _check_ended(self, run: ClusterRun) -> None:
        """UserError for a run that goes on, unless its workflow was deleted."""
        if run.state in GOING_ON and not self._is_lost(run):
            raise UserError(f"the run {run.id} is {run.state}: it is started again when it has ended")

    def _is_lost(self, run: ClusterRun) -> bool:
        """Whether the workflow of a run that KFP calls running is gone."""
        try:
            return not Namespace(self._namespace).has_workflow(run.id)
        except NoAccess:
            return False

    def run(self, run_id: str) -> ClusterRun:
        """The run with this id, with its stages."""
        what = f"find the run {run_id}"
        run = self._ask(what, self._runs.run_service_get_run, run_id=run_id)
        try:
            workflow = self._workflow(run_id)
        except requests.RequestException as error:
            raise self._refusal(what, error) from error
        return self._described(run, self._stages(run, workflow, {}), workflow)

    def find_run(self, name: str) -> WholeRun:
        """The run with this id or name, a divided sweep as one; UserError for none, or when several share the name."""
        if RUN_ID.fullmatch(name):
            run = self.run(name)
            return self._looked_at(WholeRun((run,))) if run.part else WholeRun((run,))
        found = self._latest(PAGE, filter=_named(name)) or [
            run for run in self._parts(name) if run.part and run.part.name == name
        ]
        together = taken_together(found)
        if len(together) != 1:
            told = f"{len(together)} runs are called" if together else "there is no run"
            raise UserError(f"{told} {name!r}: `untrigger runs` lists the runs with their ids")
        return self._looked_at(together[0])

    def latest_runs(self, count: int, experiment: str | None = None) -> list[WholeRun]:
        """The latest runs, newest first, at most PAGE; those of one experiment if it is named."""
        which = {} if experiment is None else {"experiment_id": self.experiment(experiment, create=False)}
        return [self._whole(run) for run in taken_together(self._latest(count, **which))]

    def _looked_at(self, run: WholeRun) -> WholeRun:
        """With all parts, and the stages of each."""
        return WholeRun(tuple(self.run(part.id) for part in self._whole(run).parts))

    def _whole(self, run: WholeRun) -> WholeRun:
        """With all parts and the latest attempt at each, where the run is (part of) a divided sweep."""
        part = run.parts[0].part
        if part is None:
            return run
        (whole,) = taken_together(each for each in self._parts(part.name) if each.part and each.part.id == part.id)
        return whole

    def _parts(self, name: str) -> list[ClusterRun]:
        """The latest runs whose names begin as those of the parts of a sweep called `name`, newest first."""
        return self._latest(PAGE, filter=_named(f"{name} part ", "IS_SUBSTRING"))

    def link(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.shown}/#/runs/details/{run_id}"

    def follow(self, run_ids: Sequence[str], show: Callable[[Event], None]) -> list[ClusterRun]:
        """Tell `show` what becomes of the stages of runs until all have ended; returns the runs.

        A lost connection is sought again for as long as PATIENCE says; then UserError.
        """
        followed = [_Followed(run_id) for run_id in run_ids]
        lost, deadline = False, 0.0
        while True:
            try:
                for each in followed:
                    self._look(each, show)
            except (kfp_server_api.ApiException, HTTPError, requests.RequestException) as error:
                if not _is_passing(error):
                    raise self._refusal(f"follow the run {run_ids[0]}", error) from error
                if not lost:
                    lost, deadline = True, time.monotonic() + self._patience
                    show(Event(self.shown, "warning", "does not answer, trying again; the run goes on"))
                if time.monotonic() > deadline:
                    raise UserError(
                        f"Kubeflow Pipelines at {self.shown} did not answer for {duration(self._patience)}; the run "
                        f"goes on: `untrigger runs {run_ids[0]} --wait` follows it again"
                    ) from error
            else:
                if lost:
                    lost = False
                    show(Event(self.shown, "warning", "answers again"))
                ended = [each.run for each in followed if each.run and each.run.state not in GOING_ON]
                if len(ended) == len(followed):
                    return ended
            time.sleep(POLL_SECONDS)

    def _look(self, followed: _Followed, show: Callable[[Event], None]) -> None:
        """Tell what is new of a run that has not ended yet."""
        if followed.run and followed.run.state not in GOING_ON:
            return
        answer = self._runs.run_service_get_run(run_id=followed.id, _request_timeout=TIMEOUT_SECONDS)
        workflow = self._workflow(followed.id)
        run = followed.run = self._described(answer, self._stages(answer, workflow, followed.names), workflow)
        for stage in run.stages:
            if (stage.stage, stage.kind, stage.text) not in followed.told:
                followed.told.add((stage.stage, stage.kind, stage.text))
                followed.changed = time.monotonic()
                if not stage.routine:
                    show(run.labelled(stage))
        if run.state in GOING_ON and time.monotonic() - followed.changed > UNCHANGED_SECONDS:
            followed.changed = time.monotonic()
            if still := self.stillness(run):
                show(Event(run.name, "warning", still))

    def stillness(self, run: ClusterRun) -> str | None:
        """What is to be said of a run that KFP calls running: nothing, or since when nothing has changed.

        LostRun when its workflow was deleted: KFP will call it running for ever.
        """
        if run.state not in GOING_ON or run.changed is None:
            return None
        still = (datetime.now(UTC) - run.changed).total_seconds()
        if still < UNCHANGED_SECONDS:
            return None
        told = f"nothing has changed since {run.changed:%Y-%m-%d %H:%M} UTC ({duration(still)})"
        try:
            namespace = Namespace(self._namespace)
            if namespace.has_workflow(run.id):
                return f"{told}; its workflow is there"
        except NoAccess as error:
            return f"{told}; whether its workflow is still there was not looked for, no Kubernetes API: {error}"
        raise LostRun(
            run.id,
            f"the run {run.id} will never end: {told}, and the cluster at {namespace.host} has no workflow of it any "
            f"more in the namespace {namespace.name}: somebody deleted it; submit it again",
        )

    def _described(self, run: Any, stages: Iterable[Stage] = (), workflow: Workflow | None = None) -> ClusterRun:
        """The run without KFP's objects."""
        canceled = any(each.state == "CANCELING" for each in run.state_history or ())
        part, sweep = _sweep_of((run.runtime_config and run.runtime_config.parameters) or {})
        return ClusterRun(
            id=str(run.run_id),
            state="TERMINATED" if canceled and run.state in ("FAILED", "CANCELED") else run.state or "",
            created=run.created_at,
            name=run.display_name or "",
            root=(run.runtime_config and run.runtime_config.pipeline_root) or "",
            reason=(run.error and run.error.message) or "",
            stages=tuple(stages),
            changed=None if workflow is None else workflow.last_change(),
            part=part,
            sweep=sweep,
        )

    def _stages(self, run: Any, workflow: Workflow | None, names: dict[str, str]) -> list[Stage]:
        """From the workflow, else from KFP's own list of tasks; `names` are those that `stage_events` keeps."""
        if workflow is not None:
            return workflow.stages((run.runtime_config and run.runtime_config.parameters) or {})
        return [Stage(**vars(event)) for event in stage_events(run, self._namespace, names)]

    def _workflow(self, run_id: str) -> Workflow | None:
        """The workflow of a run, which only the older API tells of; None where the server does not."""
        answer = requests.get(
            f"{self._endpoint}/apis/v1beta1/runs/{run_id}", headers=self._headers, timeout=TIMEOUT_SECONDS
        )
        if answer.status_code >= 500:
            answer.raise_for_status()
        if not _is_json(answer):
            return None
        return Workflow.read((answer.json().get("pipeline_runtime") or {}).get("workflow_manifest") or "")

    def _read_health(self) -> dict[str, Any]:
        """What the server says of itself, in the older and in the newer API."""
        health: dict[str, Any] = {}
        for api in ("v2beta1", "v1beta1"):
            try:
                answer = requests.get(
                    f"{self._endpoint}/apis/{api}/healthz",
                    headers=self._headers,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise self._away() from error
            if _is_json(answer):
                health |= answer.json()
            elif api == "v2beta1":
                raise self._no_health(answer)
        return health

    def _away(self) -> UserError:
        return UserError(
            f"Kubeflow Pipelines does not answer at {self.shown}: give its address by --endpoint "
            "(`kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80` brings it to http://localhost:8080)"
        )

    def _no_health(self, answer: requests.Response) -> UserError:
        """Why there is no health: away, closed to us, or something else."""
        if answer.status_code >= 500:
            return self._away()
        if answer.ok or answer.is_redirect or answer.status_code in (401, 403):
            return UserError(
                f"Kubeflow Pipelines at {self.shown} asks for a login ({answer.status_code}): put a token into {TOKEN}"
            )
        return UserError(f"what answers at {self.shown} is not Kubeflow Pipelines 2 ({answer.status_code})")

    def _latest(self, count: int, **which: str) -> list[ClusterRun]:
        """The latest runs in one page; those of an experiment, or with a filter."""
        page = self._ask(
            "list the runs",
            self._runs.run_service_list_runs,
            page_size=count,
            sort_by="created_at desc",
            **({} if "experiment_id" in which else self._own),
            **which,
        )
        return [self._described(run) for run in page.runs or ()]

    def _all(self, what: str, list_page: Callable[..., Any], name: str, **which: str) -> Iterator[Any]:
        """What all pages of a listing hold under `name`."""
        token = ""
        while True:
            page = self._ask(what, list_page, page_token=token, page_size=PAGE, **which)
            yield from getattr(page, name) or ()
            token = page.next_page_token or ""
            if not token:
                return

    def _ask(self, what: str, call: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return call(**arguments, _request_timeout=TIMEOUT_SECONDS)
        except (kfp_server_api.ApiException, HTTPError) as error:
            raise self._refusal(what, error) from error

    def _refusal(self, what: str, error: Exception) -> UserError:
        if isinstance(error, kfp_server_api.ApiException):
            return UserError(f"cannot {what}: Kubeflow Pipelines at {self.shown} answers {_answer(error)}")
        return UserError(f"cannot {what}: Kubeflow Pipelines at {self.shown} does not answer")


def _named(name: str, operation: str = "EQUALS") -> str:
    return json.dumps({"predicates": [{"operation": operation, "key": "display_name", "stringValue": name}]})


def _sweep_of(parameters: Mapping[str, Any]) -> tuple[SweepPart | None, SweepConfig | None]:
    """Which part of a sweep a run with these parameters is, and over which triggers; versions differ in settings."""
    part, config = (parameters.get("tracking") or {}).get("sweep"), parameters.get("config") or {}
    with contextlib.suppress(UserError):
        return SweepPart.of(part) if part else None, SweepConfig.of(config) if "triggers" in config else None
    return None, None


def _is_json(answer: requests.Response) -> bool:
    return answer.status_code == 200 and answer.headers.get("Content-Type", "").startswith("application/json")


def _is_passing(error: Exception) -> bool:
    """Whether asking again may help."""
    if isinstance(error, kfp_server_api.ApiException):
        return error.status in (0, 429) or (error.status or 0) >= 500
    return True


def _answer(error: Any) -> str:
    """Status and message of an answer, which is JSON where it comes from the server itself."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason
    return f"{error.status}: {' '.join(str(message).split())[:300]}"


def _seconds(variable: str, default: float) -> float:
    value = os.environ.get(variable)
    try:
        return float(value) if value else default
    except ValueError as error:
        raise UserError(f"{variable} must be a number of seconds, got {value!r}") from error


@contextlib.contextmanager
def _as_file(package: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(package)
        yield str(path)
