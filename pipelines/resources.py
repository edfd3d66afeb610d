"""How each stage asks a Kubernetes cluster for what it needs; a local run ignores it."""

from __future__ import annotations

from typing import Any

from kfp import kubernetes
from kfp.dsl.structures import ResourceSpec

from untrigger.stages.identities import STAGES, Resources
from untrigger.stages.kept_snapshots import BUCKET, PREFIX

TRACKING_CONFIG = "untrigger-tracking"
"""ConfigMap with the key `uri`, the address of the MLflow server."""

STORE_CONFIG = "untrigger-store"
"""ConfigMap with the keys `endpoint`, the address of the S3 object store, `region`, `bucket` and `prefix`."""

STORE_SECRET = "untrigger-store"
"""Secret with the keys `accessKey` and `secretKey`; only the stages that read inputs or keep snapshots there get it."""

USER = 10001
GPU_TYPE = "nvidia.com/gpu"
SHARED_MEMORY = "2Gi"


def placed(task: Any) -> Any:
    """`task` of the DAG with everything that a cluster must know about its stage."""
    (identity,) = (each for each in STAGES.values() if each.task == task.name)
    resources = identity.resources
    task.set_display_name(identity.title)
    task.container_spec.resources = _allotted(resources)
    task.set_caching_options(resources.cached)
    # The default maximum of an hour counts from the first attempt, so that a long stage would never be retried.
    task.set_retry(2, backoff_duration="60s", backoff_factor=2.0, backoff_max_duration="86400s")
    kubernetes.set_timeout(task, round(3600 * resources.hours))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "untrigger")
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, TRACKING_CONFIG, {"uri": "MLFLOW_TRACKING_URI"}, optional=True)
    if resources.gpus:
        kubernetes.add_toleration(task, key=GPU_TYPE, operator="Exists", effect="NoSchedule")
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=SHARED_MEMORY)
    if resources.uses_store:
        place = {"endpoint": "AWS_ENDPOINT_URL", "region": "AWS_REGION", "bucket": BUCKET, "prefix": PREFIX}
        kubernetes.use_config_map_as_env(task, STORE_CONFIG, place, optional=True)
        credentials = {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"}
        kubernetes.use_secret_as_env(task, STORE_SECRET, credentials, optional=True)
    return task


def _allotted(resources: Resources) -> ResourceSpec:
    """As KFP's setters write it, each of which walks the stack through all loaded modules to name itself in errors."""
    gpus = {"accelerator_type": GPU_TYPE, "accelerator_count": str(resources.gpus)} if resources.gpus else {}
    return ResourceSpec(
        cpu_request=resources.cpu,
        cpu_limit=resources.cpu,
        memory_request=resources.memory,
        memory_limit=resources.memory,
        **gpus,
    )
