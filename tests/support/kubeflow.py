"""A Kubeflow Pipelines server for the tests: its published v2beta1 API over HTTP, with runs that a test lets go on.

Answers are made of the models that the API's own package publishes, and of the workflow that KFP would make of the DAG.
Recorded runs are played back. What is uploaded is parsed as strictly as the real server parses it. The
few objects of the Kubernetes API that `submit` looks for are served beside it.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp_server_api as api
import yaml
from flask import Flask, Response, jsonify, request
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from werkzeug.serving import BaseWSGIServer, make_server

from tests.support.argo import Imitation
from tests.support.recordings import Recording, packed
from tests.support.servers import free_port

STORE = "seaweedfs.kubeflow.svc.cluster.local:8333"
PROVIDERS = f"s3:\n  default:\n    endpoint: {STORE}\n    region: us-east-1\n"
SETTINGS: dict[tuple[str, str], dict[str, str]] = {
    ("configmaps", "untrigger-tracking"): {"uri": "http://mlflow.untrigger.svc.cluster.local:5000"},
    ("configmaps", "untrigger-store"): {
        "endpoint": f"http://{STORE}",
        "region": "us-east-1",
        "bucket": "untrigger",
        "prefix": "",
    },
    ("configmaps", "kfp-launcher"): {"defaultPipelineRoot": "s3://untrigger/pipelines", "providers": PROVIDERS},
    ("secrets", "untrigger-store"): {},
}
NODE = {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2", "nvidia.com/mig-2g.20gb": "2"}
BEGAN = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


class Kubeflow:
    """The server's state, and what a test does to it.

    `course` is what a started run goes through, one entry a look: the state of the run, and of its tasks by name, `#2`
    behind it for the second item of a loop; `courses` are those of single runs by name. The task of a stage is CACHED
    where its outputs come from the cache, and
    `messages` are what Argo says of tasks. `replayed` are recorded runs as they are at one look after the other;
    `workflows` are the ids of the runs whose workflow Kubernetes has; `tells_workflows` is off for a server without the
    older API. `deployed` is
    what the objects of the namespace `untrigger` hold, by kind and name; nobody may read them when it is `forbidden`.
    `settings` is the same for `kubeflow`; `nodes` are those that take pods, of the first of which pods have `taken`
    some. `kfp_secret` is what KFP's own secret for its store holds.
    """

    def __init__(self, version: str = "2.17.1") -> None:
        self.version: str | None = version
        self.token: str | None = None
        self.multi_user = False
        self.page: str | None = None
        self.settings = copy.deepcopy(SETTINGS)
        self.tracking_ready = True
        self.nodes: list[dict[str, Any]] = [{"allocatable": NODE, "labels": {"pool": "a100"}}]
        self.taken: dict[str, str] = {}
        self.deployed: dict[tuple[str, str], dict[str, str]] = {}
        self.forbidden = False
        self.kfp_secret: dict[str, str] = {}
        self.course: list[tuple[str, dict[str, str]]] = [("SUCCEEDED", {"poison-training": "SUCCEEDED"})]
        self.courses: dict[str, list[tuple[str, dict[str, str]]]] = {}
        self.messages: dict[str, str] = {}
        self.replayed: dict[str, list[tuple[Any, Any]]] = {}
        self.workflows: set[str] = set()
        self.tells_workflows = True
        self.on_start: Callable[[api.V2beta1Run], None] = lambda run: None
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.packages: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.requests: list[str] = []
        self.port = free_port()
        self._looks: dict[str, int] = {}
        self._manifests: dict[str, str] = {}
        self._server: BaseWSGIServer | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", self.port, _application(self), threaded=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig for the Kubernetes API beside this server."""
        named = [{"name": "test", "cluster": {"server": self.endpoint}}]
        context = [{"name": "test", "context": {"cluster": "test", "user": "test"}}]
        content = {"clusters": named, "contexts": context, "users": [{"name": "test", "user": {}}]}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "test", **content}))
        return path

    def add_version(self, name: str, pipeline_id: str, content: bytes) -> api.V2beta1PipelineVersion:
        if any((each.pipeline_id, each.display_name) == (pipeline_id, name) for each in self.versions.values()):
            raise Refused(409, f"the pipeline has a version {name} already")
        spec, platform = yaml.safe_load_all(content)
        try:
            json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refused(400, f"invalid pipeline spec: {error}") from error
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id, pipeline_version_id=str(uuid.uuid4()), display_name=name, created_at=BEGAN
        )
        self.versions[made.pipeline_version_id] = made
        self.packages[made.pipeline_version_id] = [spec, platform]
        return made

    def start(self, asked: dict[str, Any]) -> api.V2beta1Run:
        reference = asked["pipeline_version_reference"]
        inputs = self.packages[reference["pipeline_version_id"]][0]["root"]["inputDefinitions"]["parameters"]
        given = asked["runtime_config"]["parameters"]
        if unknown := given.keys() ^ inputs.keys():
            raise Refused(400, f"parameters missing or unknown: {', '.join(sorted(unknown))}")
        run = api.V2beta1Run(
            run_id=str(uuid.uuid4()),
            experiment_id=asked["experiment_id"],
            display_name=asked["display_name"],
            created_at=BEGAN + timedelta(minutes=len(self.runs)),
            state="PENDING",
            pipeline_version_reference=api.V2beta1PipelineVersionReference(**reference),
            runtime_config=api.V2beta1RuntimeConfig(**asked["runtime_config"]),
        )
        self.runs[run.run_id] = run
        self.on_start(run)
        return run

    def look(self, run: api.V2beta1Run) -> api.V2beta1Run:
        """The run one look further on its course."""
        position = self._looks.get(run.run_id, 0)
        self._looks[run.run_id] = position + 1
        course = self.courses.get(run.display_name, self.course)
        run.state, tasks = course[min(position, len(course) - 1)]
        if run.state in ("SUCCEEDED", "FAILED", "CANCELED"):
            run.finished_at = run.created_at + timedelta(minutes=5)
        if run.pipeline_version_reference is None:
            return run
        nodes = self._workflow_of(run, tasks).build()
        status = packed(nodes)
        # KFP's agent reports no task any more once Argo compresses the nodes.
        if "nodes" in status:
            run.run_details = api.V2beta1RunDetails(task_details=[_task(run, node) for node in nodes.values()])
        store = {"artifactRepository": {"s3": {"bucket": "mlpipeline"}}}
        self._manifests[run.run_id] = json.dumps(
            {
                "metadata": {"labels": {"pipeline/runid": run.run_id}},
                "spec": {},
                "status": {**status, "artifactRepositoryRef": store},
            }
        )
        return run

    def workflow(self, run_id: str) -> dict[str, Any]:
        """What the older API answers of a run: its workflow as it was at the last look of the newer one."""
        if run_id in self.replayed:
            return dict(self.replayed[run_id][0][1])
        if not self.tells_workflows or run_id not in self._manifests:
            raise Refused(404, f"Run {run_id} not found")
        return {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": self._manifests[run_id]}}

    def looked_at(self, run_id: str) -> int:
        """How often a recorded run was looked at before."""
        self._looks[run_id] = self._looks.get(run_id, -1) + 1
        return self._looks[run_id]

    def replay(self, recorded: Recording, moments: Iterable[datetime]) -> str:
        """Let a recorded run be looked at, first at these moments, then as it ended; its id."""
        self.replayed[recorded.run_id] = [recorded.answers(moment) for moment in (*moments, None)]
        return recorded.run_id

    def _workflow_of(self, run: api.V2beta1Run, tasks: dict[str, str]) -> Imitation:
        spec, platform = self.packages[run.pipeline_version_reference.pipeline_version_id]
        seen: Counter[str] = Counter()

        def outcome(name: str) -> str | None:
            seen[name] += 1
            return tasks.get(name if seen[name] == 1 else f"{name}#{seen[name]}")

        given, name = run.runtime_config, f"{spec['pipelineInfo']['name']}-{run.run_id[:5]}"
        return Imitation(
            spec,
            platform,
            given.parameters,
            run.run_id,
            name,
            given.pipeline_root,
            outcome,
            run.created_at,
            self.messages,
        )


class Refused(Exception):
    """What the server will not do: an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def running_kubeflow(version: str = "2.17.1") -> Iterator[Kubeflow]:
    server = Kubeflow(version)
    server.up()
    try:
        yield server
    finally:
        server.down()


def _task(run: api.V2beta1Run, node: dict[str, Any]) -> api.V2beta1PipelineTaskDetail:
    """What KFP tells of a node: each is a task, in no order, with the ids of those inside it as the names of pods."""
    state = {"Succeeded": "SUCCEEDED", "Skipped": "SKIPPED", "Omitted": "SKIPPED"}.get(node["phase"], "RUNNING")
    return api.V2beta1PipelineTaskDetail(
        run_id=run.run_id,
        task_id=str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
        display_name=node["displayName"],
        create_time=run.created_at,
        start_time=datetime.fromisoformat(node["startedAt"]),
        end_time=datetime.fromisoformat(node["finishedAt"]) if "finishedAt" in node else None,
        state="FAILED" if node["phase"] == "Failed" else state,
        child_tasks=[api.PipelineTaskDetailChildTask(pod_name=child) for child in node.get("children", ())] or None,
    )


def _application(server: Kubeflow) -> Flask:
    app = Flask("kubeflow")

    def answer(model: Any) -> Response:
        return jsonify(api.ApiClient().sanitize_for_serialization(model))

    def check_namespace(given: str | None) -> None:
        if server.multi_user != (given == "kubeflow"):
            raise Refused(400, f"the namespace {given!r} is not for this deployment")

    def filtered(items: dict[str, Any]) -> list[Any]:
        wanted = json.loads(request.args.get("filter") or '{"predicates": []}')["predicates"]
        assert all(each["key"] == "display_name" for each in wanted)
        holds = {"EQUALS": str.__eq__, "IS_SUBSTRING": str.__contains__}
        return [
            item
            for item in items.values()
            if all(holds[each["operation"]](item.display_name, each["stringValue"]) for each in wanted)
        ]

    @app.before_request
    def note() -> Response | None:
        server.requests.append(f"{request.method} {request.path}")
        if server.token and request.headers.get("Authorization") != f"Bearer {server.token}":
            return Response("Unauthorized", 401)
        return Response(server.page) if server.page else None

    @app.errorhandler(Refused)
    def refuse(error: Refused) -> tuple[Response, int]:
        return jsonify({"code": 3, "message": str(error)}), error.status

    @app.get("/apis/v2beta1/healthz")
    def health() -> Response:
        told = {"commit_sha": "4a3592c", "tag_name": server.version, "pipeline_store": "database"}
        return jsonify({**told, "multi_user": server.multi_user})

    @app.get("/apis/v2beta1/experiments")
    def experiments() -> Response:
        check_namespace(request.args.get("namespace"))
        return answer(api.V2beta1ListExperimentsResponse(experiments=filtered(server.experiments) or None))

    @app.post("/apis/v2beta1/experiments")
    def create_experiment() -> Response:
        check_namespace(request.json.get("namespace"))
        made = api.V2beta1Experiment(
            experiment_id=str(uuid.uuid4()), display_name=request.json["display_name"], created_at=BEGAN
        )
        server.experiments[made.experiment_id] = made
        return answer(made)

    @app.get("/apis/v2beta1/pipelines")
    def pipelines() -> Response:
        check_namespace(request.args.get("namespace"))
        return answer(api.V2beta1ListPipelinesResponse(pipelines=filtered(server.pipelines) or None))

    @app.post("/apis/v2beta1/pipelines")
    def create_pipeline() -> Response:
        check_namespace(request.json.get("namespace"))
        made = api.V2beta1Pipeline(
            pipeline_id=str(uuid.uuid4()), display_name=request.json["display_name"], created_at=BEGAN
        )
        if any(each.display_name == made.display_name for each in server.pipelines.values()):
            raise Refused(409, f"there is a pipeline {made.display_name} already")
        server.pipelines[made.pipeline_id] = made
        return answer(made)

    @app.post("/apis/v2beta1/pipelines/upload_version")
    def upload_version() -> Response:
        pipeline_id = request.args["pipelineid"]
        return answer(server.add_version(request.args["name"], pipeline_id, request.files["uploadfile"].read()))

    @app.get("/apis/v2beta1/pipelines/<pipeline_id>/versions")
    def versions(pipeline_id: str) -> Response:
        found = [version for version in filtered(server.versions) if version.pipeline_id == pipeline_id]
        return answer(api.V2beta1ListPipelineVersionsResponse(pipeline_versions=found or None))

    @app.post("/apis/v2beta1/runs")
    def start() -> Response:
        return answer(server.start(request.json))

    @app.get("/apis/v2beta1/runs")
    def runs() -> Response:
        wanted = request.args.get("experiment_id")
        if not wanted:
            check_namespace(request.args.get("namespace"))
        found = [run for run in filtered(server.runs) if wanted in (None, run.experiment_id)]
        latest = sorted(found, key=lambda run: run.created_at or BEGAN, reverse=True)[: int(request.args["page_size"])]
        return answer(api.V2beta1ListRunsResponse(runs=latest or None))

    @app.get("/apis/v2beta1/runs/<run_id>")
    def run(run_id: str) -> Response:
        if steps := server.replayed.get(run_id):
            if len(steps) > 1 and server.looked_at(run_id):
                steps.pop(0)
            return jsonify(steps[0][0])
        if run_id not in server.runs:
            raise Refused(404, f"Run {run_id} not found")
        return answer(server.look(server.runs[run_id]))

    @app.get("/apis/v1beta1/runs/<run_id>")
    def workflow(run_id: str) -> Response:
        return jsonify(server.workflow(run_id))

    @app.get("/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows")
    def workflows() -> Response:
        wanted = request.args["labelSelector"].removeprefix("pipeline/runid=")
        if server.forbidden:
            raise Refused(403, "workflows are forbidden")
        return jsonify({"items": [{"metadata": {"name": "its"}}] if wanted in server.workflows else []})

    @app.get("/api/v1/namespaces/<namespace>/<kind>/<name>")
    def setting(namespace: str, kind: str, name: str) -> Response:
        if namespace == "untrigger" and server.forbidden:
            raise Refused(403, f"{kind} {name} is forbidden")
        if (namespace, kind, name) == ("kubeflow", "secrets", "mlpipeline-minio-artifact") and server.kfp_secret:
            return jsonify({"data": {k: base64.b64encode(v.encode()).decode() for k, v in server.kfp_secret.items()}})
        if namespace == "untrigger" and (kind, name) in server.deployed:
            data = server.deployed[kind, name]
            if kind == "secrets":
                data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
            return jsonify({"metadata": {"name": name}, "data": data})
        if (namespace, kind, name) == ("untrigger", "endpoints", "mlflow"):
            ready = [{"addresses": [{"ip": "10.0.0.1"}]}] if server.tracking_ready else []
            return jsonify({"metadata": {"name": name}, "subsets": ready})
        if namespace != "kubeflow" or (kind, name) not in server.settings:
            raise Refused(404, f"{kind} {name} not found")
        return jsonify({"metadata": {"name": name}, "data": server.settings[kind, name]})

    @app.get("/api/v1/nodes")
    def nodes() -> Response:
        if server.forbidden:
            raise Refused(403, "nodes are forbidden")
        made = [
            {
                "metadata": {"name": f"node-{number}", "labels": node.get("labels", {})},
                "spec": {"taints": node.get("taints", [])},
                "status": {"allocatable": node["allocatable"]},
            }
            for number, node in enumerate(server.nodes)
        ]
        return jsonify({"items": made})

    @app.get("/api/v1/pods")
    def pods() -> Response:
        container = {"name": "main", "resources": {"requests": server.taken}}
        return jsonify(
            {"items": [{"spec": {"nodeName": "node-0", "containers": [container]}, "status": {"phase": "Running"}}]}
        )

    return app
