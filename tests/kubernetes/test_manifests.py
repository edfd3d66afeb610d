"""The Kubernetes manifests: they build offline, are valid, and name nothing that is not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tests.support.kubeflow import Kubeflow
from untrigger.pipelines import resources

pytestmark = pytest.mark.kubernetes

ROOT = Path(__file__).parents[2]
OVERLAYS = ("minio", "seaweedfs", "external")
SECRETS = {"AWS_ACCESS_KEY_ID": "given-access-key", "AWS_SECRET_ACCESS_KEY": "given-secret-key"}


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All objects of an overlay, with secrets made for the test."""
    folder = shutil.copytree(
        ROOT / "k8s", tmp_path_factory.mktemp("k8s") / "k8s", ignore=shutil.ignore_patterns("secrets")
    )
    made = subprocess.run(
        [folder / "make_secrets.py", request.param],
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == made.stderr == "", "secrets are not shown"
    built = subprocess.run(
        ["kubectl", "kustomize", folder / "overlays" / request.param], capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(scope="module")
def checks() -> list[dict[str, Any]]:
    """What a deployment ends with."""
    built = subprocess.run(["kubectl", "kustomize", ROOT / "k8s/check"], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(built.stdout))


def newest_versions() -> list[str]:
    minors = {version.rpartition(".")[0]: version for version in all_versions()}
    return [minors[minor] for minor in sorted(minors, key=lambda text: [int(part) for part in text.split(".")])[-3:]]


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in manifests:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield item["metadata"]["namespace"], item["spec"]["template"]["spec"]


def names(manifests: list[dict[str, Any]], kind: str) -> set[tuple[str, str]]:
    return {
        (item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in manifests if item["kind"] == kind
    }


@pytest.mark.parametrize("version", newest_versions())
def test_every_object_is_strictly_valid(
    manifests: list[dict[str, Any]], checks: list[dict[str, Any]], version: str
) -> None:
    assert len(manifests) > 15 and len(checks) == 2
    for item in (*manifests, *checks):
        kubernetes_validate.validate(item, version, strict=True)


def test_every_pod_meets_the_restricted_standard_and_has_a_read_only_root(
    manifests: list[dict[str, Any]], checks: list[dict[str, Any]]
) -> None:
    found = list(pods([*manifests, *checks]))
    assert len(found) >= 4
    for _, pod in found:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
        assert context["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod["automountServiceAccountToken"] is False
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if "restartPolicy" not in pod:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_every_image_has_an_exact_version(manifests: list[dict[str, Any]]) -> None:
    images = [container["image"] for _, pod in pods(manifests) for container in pod["containers"]]
    for image in images:
        tag = image.partition("@")[0].rpartition(":")[2]
        assert re.search(r"\d+[.-]\d+", tag) and tag != "latest", image


def test_whatever_is_named_is_in_the_same_overlay(manifests: list[dict[str, Any]]) -> None:
    maps, secrets = names(manifests, "ConfigMap"), names(manifests, "Secret")
    held = {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"], key)
        for item in manifests
        if item["kind"] in ("ConfigMap", "Secret")
        for key in item["data"]
    }
    for namespace, pod in pods(manifests):
        assert (namespace, pod["serviceAccountName"]) in names(manifests, "ServiceAccount")
        for container in pod["containers"]:
            for variable in container.get("env", []):
                for kind in ("Secret", "ConfigMap"):
                    if source := variable.get("valueFrom", {}).get(f"{kind[0].lower()}{kind[1:]}KeyRef"):
                        assert (kind, namespace, source["name"], source["key"]) in held
    for item in manifests:
        if item["kind"] == "StatefulSet":
            assert (item["metadata"]["namespace"], item["spec"]["serviceName"]) in names(manifests, "Service")
    wanted = {resources.TRACKING_CONFIG, resources.STORE_CONFIG, "kfp-launcher"}
    assert {name for namespace, name in maps if namespace == "kubeflow"} == wanted
    assert ("kubeflow", resources.STORE_SECRET) in secrets


def test_services_select_pods_that_exist(manifests: list[dict[str, Any]]) -> None:
    labels = [
        item["spec"]["template"]["metadata"]["labels"]
        for item in manifests
        if item["kind"] in ("Deployment", "StatefulSet")
    ]
    for item in manifests:
        if item["kind"] == "Service":
            selector = item["spec"]["selector"].items()
            assert any(selector <= each.items() for each in labels), item["metadata"]["name"]


def test_no_secret_stands_outside_a_secret(manifests: list[dict[str, Any]]) -> None:
    text = yaml.safe_dump_all(item for item in manifests if item["kind"] != "Secret")
    assert not any(value in text for value in SECRETS.values())
    assert not re.search(r"(?i)password: |minioadmin|changeme", text)


def test_secrets_are_made_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("secrets"))
    made = folder / "overlays/minio/secrets"
    subprocess.run([folder / "make_secrets.py", "minio"], check=True)
    before = {path.name: path.read_text() for path in made.iterdir()}
    assert before.keys() == {"store.env", "database.env"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in made.iterdir())
    subprocess.run([folder / "make_secrets.py", "minio"], check=True)
    assert {path.name: path.read_text() for path in made.iterdir()} == before
    refused = subprocess.run([folder / "make_secrets.py", "nowhere"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "no overlay nowhere: give one of external minio seaweedfs" in refused.stderr


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    """One that kubectl knows, with what an earlier deployment of the overlay minio left."""
    cluster = Kubeflow()
    cluster.deployed = {
        ("configmaps", "untrigger-store"): {"endpoint": "http://minio.untrigger.svc.cluster.local:9000"},
        ("secrets", "untrigger-store"): {"accessKey": "its-access-key", "secretKey": "its-secret-key"},
        ("secrets", "mlflow-database"): {"password": "its-password"},
    }
    cluster.up()
    monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "kubeconfig")))
    yield cluster
    cluster.down()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The manifests of another checkout."""
    return shutil.copytree(ROOT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("secrets"))


def make_secrets(checkout: Path, overlay: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(checkout / "make_secrets.py"), overlay]
    return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def written(checkout: Path, overlay: str) -> tuple[str, ...]:
    return tuple((checkout / "overlays" / overlay / "secrets" / f"{n}.env").read_text() for n in ("store", "database"))


def test_another_checkout_takes_the_secrets_that_the_cluster_has(cluster: Kubeflow, checkout: Path) -> None:
    assert make_secrets(checkout, "minio").returncode == 0
    store, database = written(checkout, "minio")
    assert (store, database) == ("accessKey=its-access-key\nsecretKey=its-secret-key\n", "password=its-password\n")


def test_a_deployment_without_secrets_gets_new_ones(cluster: Kubeflow, checkout: Path) -> None:
    del cluster.deployed["secrets", "untrigger-store"], cluster.deployed["secrets", "mlflow-database"]
    made = make_secrets(checkout, "minio")
    assert made.returncode == 0, made.stderr
    assert "accessKey=" in written(checkout, "minio")[0] and "its-" not in "".join(written(checkout, "minio"))


def test_kfps_own_store_is_opened_with_the_credentials_that_kfp_has(cluster: Kubeflow, checkout: Path) -> None:
    missing = make_secrets(checkout, "seaweedfs")
    assert missing.returncode != 0 and "shows no secret mlpipeline-minio-artifact in kubeflow" in missing.stderr
    for key in ("its-key", "its-new-key"):
        cluster.kfp_secret = {"accesskey": key, "secretkey": "its-secret"}
        assert make_secrets(checkout, "seaweedfs", **SECRETS).returncode == 0
        assert written(checkout, "seaweedfs")[0] == f"accessKey={key}\nsecretKey=its-secret\n"


def test_another_store_does_not_get_the_credentials_of_the_one_that_the_cluster_had(
    cluster: Kubeflow, checkout: Path
) -> None:
    refused = make_secrets(checkout, "external")
    assert refused.returncode != 0 and "must stand in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in refused.stderr
    assert make_secrets(checkout, "external", **SECRETS).returncode == 0
    store, database = written(checkout, "external")
    assert (store, database) == ("accessKey=given-access-key\nsecretKey=given-secret-key\n", "password=its-password\n")


def test_no_new_secrets_are_made_while_the_cluster_does_not_show_its_own(cluster: Kubeflow, checkout: Path) -> None:
    cluster.forbidden = True
    for overlay, environment in (("minio", {}), ("external", SECRETS)):
        refused = make_secrets(checkout, overlay, **environment)
        assert refused.returncode != 0 and "cannot see whether the cluster has secrets already" in refused.stderr
        assert not (checkout / "overlays" / overlay / "secrets" / "database.env").exists()


def test_an_outside_store_without_credentials_is_refused(checkout: Path) -> None:
    refused = make_secrets(checkout, "external")
    assert refused.returncode != 0 and "must stand in AWS_ACCESS_KEY_ID and" in refused.stderr
    assert not (checkout / "overlays/external/secrets/store.env").exists()
