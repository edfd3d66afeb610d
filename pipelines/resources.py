"""What each stage asks of a Kubernetes cluster; a local run ignores it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kfp import kubernetes

TRACKING_CONFIG = "untrigger-tracking"
"""ConfigMap with the key `uri`, the address of the MLflow server."""

STORE_CONFIG = "untrigger-store"
"""ConfigMap with the keys `endpoint`, the address of the S3 object store, and `region`."""

STORE_SECRET = "untrigger-store"
"""Secret with the keys `accessKey` and `secretKey`; only the stages that read inputs there get it."""

USER = 10001
GPU_TYPE = "nvidia.com/gpu"


@dataclass(frozen=True)
class Resources:
    """Requests are limits, so that a stage gets what it was promised; `hours` end a stage that hangs.

    `cached`: an earlier run's outputs may be reused, since they depend on the inputs alone.
    """

    cpu: str
    memory: str
    hours: float
    gpus: int = 0
    shared_memory: str | None = None
    cached: bool = True
    reads_store: bool = False


_BOOKKEEPING = Resources(cpu="250m", memory="512Mi", hours=0.25, cached=False)
_GPU = Resources(cpu="4", memory="16Gi", hours=12, gpus=1, shared_memory="2Gi")

# Evaluation and aggregation write to the tracking run of this very pipeline run, so they run every time.
RESOURCES = {
    "open-run": _BOOKKEEPING,
    "close-run": _BOOKKEEPING,
    "prepare-data": Resources(cpu="2", memory="8Gi", hours=2, reads_store=True),
    "clean-training": replace(_GPU, reads_store=True),
    "staircase": Resources(cpu="1", memory="4Gi", hours=0.5),
    "aggregation": Resources(cpu="1", memory="4Gi", hours=0.5, cached=False),
    "poison-training": replace(_GPU, reads_store=True),
    "pixel-sgd": _GPU,
    "generator-training": _GPU,
    "visualisation": _GPU,
    "retraining": _GPU,
    "ideal-retraining": _GPU,
    "evaluation": replace(_GPU, hours=4, cached=False),
}


def placed(task: Any, title: str) -> Any:
    """`task` of the DAG with everything that a cluster must know about it; `title` is what its pages show."""
    resources = RESOURCES[task.name]
    task.set_display_name(title)
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    task.set_caching_options(resources.cached)
    # The default maximum of an hour counts from the first attempt, so that a long stage would never be retried.
    task.set_retry(2, backoff_duration="60s", backoff_factor=2.0, backoff_max_duration="86400s")
    kubernetes.set_timeout(task, round(3600 * resources.hours))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "untrigger")
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, TRACKING_CONFIG, {"uri": "MLFLOW_TRACKING_URI"}, optional=True)
    if resources.gpus:
        task.set_accelerator_type(GPU_TYPE).set_accelerator_limit(resources.gpus)
        kubernetes.add_toleration(task, key=GPU_TYPE, operator="Exists", effect="NoSchedule")
    if resources.shared_memory:
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=resources.shared_memory)
    if resources.reads_store:
        place = {"endpoint": "AWS_ENDPOINT_URL", "region": "AWS_REGION"}
        kubernetes.use_config_map_as_env(task, STORE_CONFIG, place, optional=True)
        credentials = {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"}
        kubernetes.use_secret_as_env(task, STORE_SECRET, credentials, optional=True)
    return task
