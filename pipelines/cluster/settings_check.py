"""What our stages will use in the cluster: settings, secret, launcher, tracking server, nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from untrigger.errors import UserError
from untrigger.pipelines.cluster.namespace import Namespace, NoAccess
from untrigger.pipelines.cluster.nodes import demands, placeable
from untrigger.pipelines.resources import STORE_CONFIG, STORE_SECRET, TRACKING_CONFIG
from untrigger.storage.objects import Address

LAUNCHER = "kfp-launcher"
"""KFP's ConfigMap that tells its launcher where stores are; KFP's manifests, applied again, empty it."""

_SKIP = "--skip-settings-check where kubectl's current context is another cluster, or where the stages do without"


@dataclass(frozen=True)
class Checked:
    """Where runs go by the namespace's own settings, None where it does not say; and what to tell the user."""

    store: Address | None = None
    warnings: tuple[str, ...] = ()


def check_settings(name: str, documents: Sequence[dict[str, Any]]) -> Checked:
    """See that the namespace `name` has what the stages of a DAG need; warn of what could not be seen.

    UserError for what is missing, disagrees, does not answer, or can never run.
    """
    try:
        namespace = Namespace(name)
        tracking, store = namespace.config_map(TRACKING_CONFIG), namespace.config_map(STORE_CONFIG)
        secret, launcher = namespace.has_secret(STORE_SECRET), namespace.config_map(LAUNCHER)
    except NoAccess as error:
        return Checked(
            warnings=(
                f"the settings and the secret in the namespace {name}, MLflow and the nodes were not checked, no "
                f"Kubernetes API: {error}",
            )
        )
    there = {
        f"ConfigMap {TRACKING_CONFIG}": tracking is not None,
        f"ConfigMap {STORE_CONFIG}": store is not None,
        f"Secret {STORE_SECRET}": secret,
    }
    if missing := [what for what, found in there.items() if not found]:
        raise UserError(
            f"the namespace {name} of the cluster at {namespace.host} lacks {', '.join(missing)}, which the stages "
            f"need: `make deploy` brings them ({_SKIP})"
        )
    _check_launcher(name, store or {}, launcher or {})
    asked = (
        _asked("MLflow was not asked", lambda: _check_tracking(namespace, (tracking or {}).get("uri", ""))),
        _asked("the nodes were not looked at", lambda: _check_nodes(namespace, documents)),
    )
    bucket, prefix = (store or {}).get("bucket"), (store or {}).get("prefix", "")
    where = Address.parse(f"s3://{bucket}/{prefix}") if bucket else None
    return Checked(where, tuple(warning for warning in asked if warning))


def _asked(otherwise: str, check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except NoAccess as error:
        return f"{otherwise}, no Kubernetes API for it: {error}"


def _check_launcher(namespace: str, store: dict[str, str], launcher: dict[str, str]) -> None:
    """UserError unless KFP's launcher is told of the store that the stages are told of."""
    endpoint = store.get("endpoint", "")
    if not endpoint:
        return
    try:
        providers = yaml.safe_load(launcher.get("providers") or "{}") or {}
    except yaml.YAMLError:
        providers = {}
    told = (providers.get("s3") or {}).get("default") or {}
    wanted = {"endpoint": endpoint.partition("://")[2], "region": store.get("region")}
    different = [
        f"{key} {told.get(key)!r} in place of {value!r}" for key, value in wanted.items() if told.get(key) != value
    ]
    if different:
        raise UserError(
            f"KFP's ConfigMap {LAUNCHER} in {namespace} does not agree with {STORE_CONFIG}: {', '.join(different)}; "
            f"every stage would fail as it uploads. KFP's manifests, applied again, empty it; `make deploy` sets it "
            f"({_SKIP})"
        )


def _check_tracking(namespace: Namespace, uri: str) -> str | None:
    """UserError when the tracking server is a Service without a pod that is ready."""
    name, _, rest = (urlsplit(uri).hostname or "").partition(".")
    if not rest.partition(".")[2].startswith("svc"):
        return None
    where = rest.partition(".")[0]
    if not namespace.is_ready(name, where):
        raise UserError(
            f"MLflow at {uri} has no pod that is ready, and `open run` would fail: `kubectl -n {where} describe pods "
            f"-l app.kubernetes.io/name={name}` tells why ({_SKIP})"
        )
    return None


def _check_nodes(namespace: Namespace, documents: Sequence[dict[str, Any]]) -> str | None:
    """UserError for stages that no node could ever hold; a warning for those that wait for others to end."""
    never, later = placeable(demands(documents), namespace.nodes())
    if never:
        raise UserError(
            f"no node of the cluster could ever hold {', '.join(never)}: --placement FILE asks for less, or elsewhere "
            f"({_SKIP})"
        )
    return f"these stages wait for others to end, no node has so much free now: {', '.join(later)}" if later else None
