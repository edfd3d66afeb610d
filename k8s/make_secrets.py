#!/usr/bin/env python3
"""Writes the secrets of an overlay into its folder `secrets`, unless they are there: k8s/make_secrets.py OVERLAY

They are those that kubectl's cluster has, so that any checkout may deploy: for `seaweedfs` the credentials of KFP's own
secret, looked up every time. Where the cluster has none for this store, MinIO gets new ones, and those of another store
are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. No secret is printed, and git ignores the folder.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OVERLAYS = Path(__file__).parent / "overlays"
GIVEN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KFPS_OWN = "mlpipeline-minio-artifact"
"""KFP's secret with the credentials of the SeaweedFS that it brings along."""


def main(overlay: str) -> None:
    if not (OVERLAYS / overlay).is_dir():
        sys.exit(
            f"error: no overlay {overlay}: give one of {' '.join(sorted(path.name for path in OVERLAYS.iterdir()))}"
        )
    folder = OVERLAYS / overlay / "secrets"
    os.umask(0o077)
    folder.mkdir(exist_ok=True)
    if overlay == "seaweedfs" or not (folder / "store.env").exists():
        access, secret = store_credentials(overlay)
        (folder / "store.env").write_text(f"accessKey={access}\nsecretKey={secret}\n")
    if not (folder / "database.env").exists():
        password = deployed_secret("mlflow-database").get("password") or secrets.token_hex(20)
        (folder / "database.env").write_text(f"password={password}\n")


def store_credentials(overlay: str) -> tuple[str, str]:
    """Access key and secret key."""
    if overlay == "seaweedfs" and (found := deployed_secret(KFPS_OWN, "kubeflow")):
        return found["accesskey"], found["secretkey"]
    given = [os.environ.get(name, "") for name in GIVEN]
    if overlay != "minio" and all(given):
        return given[0], given[1]
    same_store = deployed("configmaps/untrigger-store").get("endpoint") == own_endpoint(overlay)
    if same_store and (found := deployed_secret("untrigger-store")):
        return found["accessKey"], found["secretKey"]
    if overlay != "minio":
        where = f", since kubectl's cluster shows no secret {KFPS_OWN} in kubeflow" if overlay == "seaweedfs" else ""
        sys.exit(f"error: the store's credentials must stand in {' and '.join(GIVEN)}{where}")
    return secrets.token_hex(10), secrets.token_hex(20)


def own_endpoint(overlay: str) -> str:
    lines = (OVERLAYS / overlay / "store.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["endpoint"]


def deployed_secret(name: str, namespace: str = "untrigger") -> dict[str, str]:
    """What the cluster's Secret holds; nothing when there is none."""
    return {key: base64.b64decode(value).decode() for key, value in deployed(f"secrets/{name}", namespace).items()}


def deployed(name: str, namespace: str = "untrigger") -> dict[str, Any]:
    """The data of an object in the cluster's namespace; nothing when there is none, or no cluster at all."""
    if not shutil.which("kubectl") or kubectl("config", "current-context").returncode != 0:
        return {}
    answer = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/{name}", "--request-timeout=10s")
    if answer.returncode == 0:
        return dict(json.loads(answer.stdout).get("data", {}))
    if "NotFound" in answer.stderr:
        return {}
    # New secrets would lock a running database and store out of their own data.
    sys.exit(
        f"error: cannot see whether the cluster has secrets already: {' '.join(answer.stderr.split())} "
        "(KUBECONFIG=/dev/null makes new ones without asking)"
    )


def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *words], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(sys.argv[1])
