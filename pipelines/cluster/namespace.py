"""What the Kubernetes API tells of the namespace in which the stages run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from untrigger.pipelines.cluster.nodes import Node, amounts

T = TypeVar("T")

SECONDS = 10
"""For an answer."""


class NoAccess(Exception):
    """Why the Kubernetes API cannot be asked, in a few words."""


class Namespace:
    """A namespace of the cluster that kubectl's current context names; every method raises NoAccess."""

    def __init__(self, name: str) -> None:
        from kubernetes import client, config

        self.name = name

        def load() -> Any:
            config.load_kube_config(os.environ.get("KUBECONFIG"))
            return client.CoreV1Api()

        self.core = _asked(load)
        self.host = self.core.api_client.configuration.host

    def config_map(self, name: str) -> dict[str, str] | None:
        """The data of a ConfigMap; None when there is none."""
        found = self._found(self.core.read_namespaced_config_map, name, self.name)
        return None if found is None else dict(found.data or {})

    def has_secret(self, name: str) -> bool:
        """Whether there is a Secret of this name."""
        return self._found(self.core.read_namespaced_secret, name, self.name) is not None

    def has_workflow(self, run_id: str) -> bool:
        """Whether the workflow of a run is there."""
        from kubernetes import client

        api = client.CustomObjectsApi(self.core.api_client)
        listed = _asked(
            lambda: api.list_namespaced_custom_object(
                "argoproj.io",
                "v1alpha1",
                self.name,
                "workflows",
                label_selector=f"pipeline/runid={run_id}",
                limit=1,
                _request_timeout=SECONDS,
            )
        )
        return bool(listed["items"])

    def is_ready(self, service: str, namespace: str) -> bool:
        """Whether a Service of another namespace has a pod that is ready."""
        found = self._found(self.core.read_namespaced_endpoints, service, namespace)
        return any(subset.addresses for subset in (found and found.subsets) or ())

    def nodes(self) -> list[Node]:
        """The nodes that take pods, with what pods have left of them."""
        listed = _asked(lambda: self.core.list_node(_request_timeout=SECONDS)).items
        pods = _asked(lambda: self.core.list_pod_for_all_namespaces(_request_timeout=SECONDS)).items
        taken: dict[str, Counter[str]] = defaultdict(Counter)
        for pod in pods:
            if pod.spec.node_name and pod.status.phase not in ("Succeeded", "Failed"):
                for container in pod.spec.containers:
                    taken[pod.spec.node_name].update(amounts(container.resources and container.resources.requests))
        return [
            Node(
                has := amounts(node.status.allocatable),
                {name: amount - taken[node.metadata.name][name] for name, amount in has.items()},
                node.metadata.labels or {},
                [{"key": each.key, "value": each.value, "effect": each.effect} for each in node.spec.taints or ()],
            )
            for node in listed
            if not node.spec.unschedulable
        ]

    def _found(self, read: Callable[..., Any], *name: str) -> Any:
        from kubernetes import client

        def ask() -> Any:
            try:
                return read(*name, _request_timeout=SECONDS)
            except client.ApiException as error:
                if error.status == 404:
                    return None
                raise

        return _asked(ask)


def _asked(call: Callable[[], T]) -> T:
    from kubernetes import client

    try:
        return call()
    # Whatever plug-ins log in with raises errors of its own.
    except Exception as error:
        reason = error.reason if isinstance(error, client.ApiException) else " ".join(str(error).split())[:120]
        raise NoAccess(reason) from error
