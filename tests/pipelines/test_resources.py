"""What the compiled DAGs tell a Kubernetes cluster, read strictly with the published schemas."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from untrigger.pipelines.arguments import COMPILED
from untrigger.stages import identities

STAGES = {identity.task for identity in identities.STAGES.values()}
ENDING = {"evaluation", "aggregation", "gathered-references", "verdicts", "defence", "grid-report"}
GATHERING = {"staircase", "gathered-cells", *ENDING} - {"evaluation", "defence"}
WITHOUT_A_GPU = {"open-run", "close-run", "prepare-data", *GATHERING}
TRAINING = {"pixel-sgd", "generator-training", "retraining", "ideal-retraining", "reference-training", "defence"}
READING = {"prepare-data", "clean-training", "poison-training", "model-scan", "reference-scan"}
OF_GRIDS = {"grid-planting", "grid-cells", "grid-report"}
USING_THE_STORE = {*READING, *TRAINING, *OF_GRIDS, "gathered-references"}


@pytest.fixture(scope="module")
def documents() -> dict[str, list[dict[str, Any]]]:
    """Spec and platform spec of each DAG: together they have every stage."""
    return {name: list(yaml.safe_load_all(path.read_text())) for name, path in COMPILED.items()}


@pytest.fixture(scope="module")
def containers(documents: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {name: container for dag in documents.values() for name, container in containers_of(dag[0]).items()}


@pytest.fixture(scope="module")
def pods(documents: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {name: pod for dag in documents.values() for name, pod in pods_of(dag[1]).items()}


def containers_of(spec: dict[str, Any]) -> dict[str, Any]:
    executors = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def pods_of(platform: dict[str, Any]) -> dict[str, Any]:
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor for name, executor in executors.items()}


def all_tasks(documents: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    specs = [spec for spec, _ in documents.values()]
    dags = [part.get("dag", {}) for spec in specs for part in (spec["root"], *spec["components"].values())]
    tasks = [task for dag in dags for task in dag.get("tasks", {}).values()]
    return {task["componentRef"]["name"].removeprefix("comp-"): task for task in tasks}


def test_the_documents_are_what_the_published_schemas_allow(
    documents: dict[str, list[dict[str, Any]]], pods: dict[str, Any]
) -> None:
    for spec, platform in documents.values():
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    for pod in pods.values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    assert pods.keys() == STAGES


def test_every_stage_has_an_image_of_its_own_and_installs_nothing(containers: dict[str, Any]) -> None:
    images = {identity.task: identity.image for identity in identities.STAGES.values()}
    assert {stage: container["image"] for stage, container in containers.items()} == images
    for container in containers.values():
        assert "pip install" not in " ".join(container["command"])


def test_a_stage_asks_for_the_same_in_all_dags(
    documents: dict[str, list[dict[str, Any]]], containers: dict[str, Any], pods: dict[str, Any]
) -> None:
    for spec, platform in documents.values():
        own = pods_of(platform)
        for stage, container in containers_of(spec).items():
            assert container == containers[stage] and own[stage] == pods[stage], stage


def test_every_gpu_stage_gets_one_gpu_shared_memory_and_may_run_where_gpus_are(
    containers: dict[str, Any], pods: dict[str, Any]
) -> None:
    for stage in STAGES:
        accelerator = containers[stage]["resources"].get("accelerator")
        tolerations = pods[stage].get("tolerations", [])
        mounts = pods[stage].get("emptyDirMounts", [])
        if stage not in WITHOUT_A_GPU:
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1"), stage
            assert tolerations == [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}], stage
            assert [(mount["mountPath"], mount["medium"], mount["sizeLimit"]) for mount in mounts] == [
                ("/dev/shm", "Memory", "2Gi")
            ], stage
        else:
            assert accelerator is None and not tolerations and not mounts, stage


def test_every_stage_has_limits_a_deadline_and_an_unprivileged_user(
    containers: dict[str, Any], pods: dict[str, Any]
) -> None:
    for stage in STAGES:
        resources = containers[stage]["resources"]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"], stage
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], stage
        assert 600 <= int(pods[stage]["activeDeadlineSeconds"]) <= 86400, stage
        assert pods[stage]["securityContext"] == {
            "runAsGroup": "10001",
            "runAsNonRoot": True,
            "runAsUser": "10001",
        }, stage
        assert pods[stage]["podMetadata"]["labels"] == {"app.kubernetes.io/part-of": "untrigger"}, stage


def test_what_is_lost_with_a_node_is_tried_again_for_as_long_as_a_stage_takes(
    documents: dict[str, list[dict[str, Any]]],
) -> None:
    tasks = all_tasks(documents)
    for stage in STAGES:
        policy = tasks[stage]["retryPolicy"]
        assert policy["maxRetryCount"] == 2 and policy["backoffDuration"] == "60s", stage
        assert policy["backoffMaxDuration"] == "86400s", stage


def test_only_stages_that_write_to_the_run_itself_are_never_taken_from_the_cache(
    documents: dict[str, list[dict[str, Any]]],
) -> None:
    tasks = all_tasks(documents)
    cached = {stage for stage in STAGES if tasks[stage]["cachingOptions"].get("enableCache")}
    assert STAGES - cached == {"open-run", "close-run", *ENDING}


def test_the_run_id_tracking_and_store_reach_a_stage_by_reference_only(pods: dict[str, Any]) -> None:
    for stage in STAGES:
        fields = {field["name"]: field["fieldPath"] for field in pods[stage]["fieldPathAsEnv"]}
        assert fields == {"KFP_RUN_ID": "metadata.labels['pipeline/runid']"}, stage
        variables = {key["envVar"] for source in pods[stage]["configMapAsEnv"] for key in source["keyToEnv"]}
        place = {"AWS_ENDPOINT_URL", "AWS_REGION", "UNTRIGGER_STORE_BUCKET", "UNTRIGGER_STORE_PREFIX"}
        place = place if stage in USING_THE_STORE else set()
        assert variables == {"MLFLOW_TRACKING_URI", *place}, stage
        secrets = {key["envVar"] for source in pods[stage].get("secretAsEnv", []) for key in source["keyToEnv"]}
        expected = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} if stage in USING_THE_STORE else set()
        assert secrets == expected, stage


def test_no_secret_host_or_run_is_written_into_the_compiled_dags(
    documents: dict[str, list[dict[str, Any]]], containers: dict[str, Any]
) -> None:
    assert all("env" not in container for container in containers.values())
    text = json.dumps(documents)
    assert not re.search(r"https?://|localhost|127\.0\.0\.1|AKIA|password|/home/|/root/", text)
    assert not re.search(r"\b[0-9a-f]{32}\b|[0-9a-f]{8}-[0-9a-f]{4}-", text)
