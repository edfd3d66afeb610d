"""The settings that our stages find in their namespace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from untrigger.errors import UserError
from untrigger.pipelines.resources import STORE_CONFIG, STORE_SECRET, TRACKING_CONFIG


def check_settings(namespace: str) -> str | None:
    """See that the ConfigMaps and the Secret that stages name are in `namespace`.

    UserError that names those that are missing; a sentence when the Kubernetes API cannot be asked, else None.
    """
    from kubernetes import client, config

    try:
        config.load_kube_config(os.environ.get("KUBECONFIG"))
        api = client.CoreV1Api()
        reads: Iterable[tuple[str, str, Callable[..., Any]]] = (
            ("ConfigMap", TRACKING_CONFIG, api.read_namespaced_config_map),
            ("ConfigMap", STORE_CONFIG, api.read_namespaced_config_map),
            ("Secret", STORE_SECRET, api.read_namespaced_secret),
        )
        missing = [f"{kind} {name}" for kind, name, read in reads if not _is_there(read, name, namespace)]
    # Whatever plug-ins log in with raises errors of its own.
    except Exception as error:
        reason = error.reason if isinstance(error, client.ApiException) else " ".join(str(error).split())[:120]
        return f"the settings and the secret in the namespace {namespace} were not checked, no Kubernetes API: {reason}"
    if missing:
        raise UserError(
            f"the namespace {namespace} of the cluster at {api.api_client.configuration.host} lacks "
            f"{', '.join(missing)}, which the stages need: `make deploy` brings them (--skip-settings-check where "
            "kubectl's current context is another cluster, or where the stages do without)"
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
