"""Images by digest: resolved by a real registry, put into the manifests, and demanded before anything is applied."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.servers import free_port
from tests.support.waiting import wait_for
from untrigger import __version__
from untrigger.artifacts import read_json, write_json
from untrigger.errors import UserError
from untrigger.pipelines.cluster.registries import check_images
from untrigger.pipelines.images import images_in, named_images

pytestmark = pytest.mark.kubernetes

ROOT = Path(__file__).parents[2]
UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))
STAND_IN = """#!/bin/sh
# kubectl without a cluster: what is to be applied is kept, the rest is answered as the environment says.
echo "$*" >>{folder}/asked
case "$*" in
kustomize*) exec {kubectl} "$@" ;;
"get namespace kubeflow") [ -z "$NO_KUBEFLOW" ] || exit 1 ;;
"apply -f -") {{ echo ---; cat; }} >>{folder}/applied.yaml ;;
delete*) cat >/dev/null ;;
*"get deployments,"*) echo "$LEFT_BEHIND" ;;
*rollout*) exit "${{ROLLOUT:-0}}" ;;
*"-n kubeflow get job"*) echo "${{STORE_CHECK:-SuccessCriteriaMet Complete}}" ;;
*"get job"*) echo Complete ;;
*logs*) echo "the log of $*" ;;
esac
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that has every image of the compiled DAGs, each of them empty but for its name."""
    folder, address = tmp_path_factory.mktemp("registry"), f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: {address}}}\n"
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", folder / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: _answers(address), 20)
        for image in named_images(()):
            layout = _empty_image(folder / image.replace("/", "-").replace(":", "-"), image)
            target = f"docker://{address}/{image}"
            subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", target], check=True)
        yield address
    finally:
        server.kill()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/v2/", timeout=1).ok
    except requests.ConnectionError:
        return False


def _empty_image(folder: Path, name: str) -> Path:
    """An OCI image layout without files."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: object, kind: str) -> dict[str, object]:
        raw = json.dumps(content).encode()
        digest = hashlib.sha256(raw).hexdigest()
        (blobs / digest).write_bytes(raw)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}.v1+json",
            "digest": f"sha256:{digest}",
            "size": len(raw),
        }

    settings = {"config": {"Labels": {"name": name}}, "rootfs": {"type": "layers", "diff_ids": []}}
    config = blob({"architecture": "amd64", "os": "linux", **settings}, "config")
    manifest = blob({"schemaVersion": 2, "config": config, "layers": []}, "manifest")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return folder


def pin(registry: str, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [UNTRIGGER, "images", "pin", "--registry", registry, "--plain-http", "--output", str(output), *more]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_every_image_gets_the_digest_that_the_registry_has(registry: str, tmp_path: Path) -> None:
    pinned = pin(registry, tmp_path / "images.json")
    assert pinned.returncode == 0, pinned.stderr
    pins = read_json(tmp_path / "images.json")["images"]
    assert pins.keys() == set(named_images(())) >= {"untrigger/generator-training:" + __version__}
    assert len(set(pins.values())) == len(pins), "each image its own digest"
    for image, reference in pins.items():
        name, _, tag = image.partition(":")
        shown = requests.head(
            f"http://{registry}/v2/{name}/manifests/{tag}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
            timeout=5,
        )
        assert reference == f"{registry}/{name}@{shown.headers['Docker-Content-Digest']}"


def test_a_submission_asks_the_registry_for_its_images(registry: str, tmp_path: Path) -> None:
    assert pin(registry, tmp_path / "images.json").returncode == 0
    pins = list(read_json(tmp_path / "images.json")["images"].values())
    check_images(
        [*pins, f"{registry}/{named_images(())[0]}", "untrigger/on-the-nodes:1", f"127.0.0.1:{free_port()}/a:1"]
    )
    for missing in (f"{registry}/untrigger/evaluation:0.0.0", f"{pins[0].partition('@')[0]}@sha256:{64 * '0'}"):
        with pytest.raises(UserError, match=f"the registry {registry} has no image {missing}, and every stage"):
            check_images([*pins, missing])


def test_nothing_is_written_when_an_image_cannot_be_resolved(registry: str, tmp_path: Path) -> None:
    failed = pin(f"{registry}/elsewhere", tmp_path / "images.json")
    assert failed.returncode == 2 and failed.stderr.startswith("error: cannot resolve")
    assert not (tmp_path / "images.json").exists()


def deploy(tmp_path: Path, overlay: str = "minio", **environment: str) -> subprocess.CompletedProcess[str]:
    """`k8s/deploy.sh OVERLAY` in a copy of the manifests, beside a kubectl that keeps what is to be applied."""
    tools = tmp_path / "bin"
    tools.mkdir()
    stand_in = STAND_IN.format(kubectl=shutil.which("kubectl"), folder=tmp_path)
    (tools / "kubectl").write_text(stand_in)
    (tools / "kubectl").chmod(0o755)
    (tools / "untrigger").symlink_to(UNTRIGGER)
    credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    subprocess.run([tmp_path / "k8s/make_secrets.py", overlay], env={**os.environ, **credentials}, check=True)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [tmp_path / "k8s/deploy.sh", overlay],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("secrets", "images.json"))
    return tmp_path


def test_images_without_a_digest_are_not_deployed_unless_that_is_allowed(checkout: Path) -> None:
    refused = deploy(checkout)
    assert refused.returncode != 0 and not (checkout / "applied.yaml").exists()
    assert f"no digest for postgres:17.6-alpine3.22, untrigger/mlflow-server:{__version__}" in refused.stderr
    shutil.rmtree(checkout / "bin")
    assert deploy(checkout, UNPINNED="1").returncode == 0
    assert len(applied(checkout)) > 15


def applied(checkout: Path) -> list[Any]:
    return [item for item in yaml.safe_load_all((checkout / "applied.yaml").read_text()) if item]


def settings_of(checkout: Path) -> dict[str, str]:
    """What the pod templates of the servers say of their settings."""
    templates = {
        item["metadata"]["name"]: item["spec"]["template"]
        for item in applied(checkout)
        if "spec" in item and "template" in item["spec"]
    }
    return {
        name: each["metadata"].get("annotations", {}).get("untrigger.io/settings", "")
        for name, each in templates.items()
    }


def test_without_kubeflow_nothing_is_applied(checkout: Path) -> None:
    refused = deploy(checkout, UNPINNED="1", NO_KUBEFLOW="1")
    assert refused.returncode != 0 and not (checkout / "applied.yaml").exists()
    assert "there is no namespace kubeflow" in refused.stderr and "nothing was applied" in refused.stderr


def test_other_settings_roll_the_servers_over_and_the_same_ones_do_not(checkout: Path) -> None:
    seen = []
    for line in ("", "", "region=eu-central-1"):
        if line:
            overlay = checkout / "k8s/overlays/minio"
            for name in ("store.env", "providers.yaml"):
                (overlay / name).write_text((overlay / name).read_text().replace("us-east-1", "eu-central-1"))
        (checkout / "applied.yaml").unlink(missing_ok=True)
        assert deploy(checkout, UNPINNED="1").returncode == 0
        shutil.rmtree(checkout / "bin")
        seen.append(settings_of(checkout))
    assert seen[0] == seen[1] and seen[0]["mlflow"].startswith("sha256-")
    assert all(seen[0][name] != seen[2][name] for name in ("mlflow", "minio"))


def test_what_an_earlier_overlay_left_is_named(checkout: Path) -> None:
    deployed = deploy(checkout, "seaweedfs", UNPINNED="1", LEFT_BEHIND="statefulset.apps/minio")
    assert deployed.returncode == 0, deployed.stderr
    assert "kubectl -n untrigger delete statefulset.apps/minio" in deployed.stderr
    assert "-l untrigger.io/overlay!=seaweedfs" in (checkout / "asked").read_text()
    overlays = {item["metadata"]["labels"].get("untrigger.io/overlay") for item in applied(checkout)}
    assert overlays == {"seaweedfs", None}, "all but the checks bear it"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ROLLOUT": "1"}, "MLflow does not come up"),
        ({"STORE_CHECK": "FailureTarget Failed"}, "the store does not work in the namespace kubeflow"),
    ],
)
def test_a_deployment_that_does_not_work_ends_with_the_servers_own_log(
    checkout: Path, wrong: dict[str, str], told: str
) -> None:
    failed = deploy(checkout, UNPINNED="1", **wrong)
    assert failed.returncode != 0 and told in failed.stderr and "the log of" in failed.stderr


def test_a_deployment_ends_with_a_check_of_the_store_in_each_namespace(checkout: Path) -> None:
    deployed = deploy(checkout, UNPINNED="1")
    checks = [item for item in applied(checkout) if item["kind"] == "Job"]
    assert [item["metadata"]["namespace"] for item in checks] == ["kubeflow", "untrigger"]
    assert deployed.stdout.count("logs job/store-check") == 2, "what they say is shown"


def make(*words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_images_are_neither_pushed_nor_pinned_without_a_registry() -> None:
    for target in ("push-images", "pin-images"):
        refused = make("--dry-run", target)
        assert refused.returncode != 0 and "no registry: give one" in refused.stderr
    pinned = subprocess.run([UNTRIGGER, "images", "pin", "--registry", ""], capture_output=True, text=True, check=False)
    assert pinned.returncode == 2 and "make pin-images REGISTRY=" in pinned.stderr


def test_a_registry_without_tls_is_told_to_every_target(tmp_path: Path) -> None:
    planned = make("--dry-run", "push-images", "pin-images", "deploy", "REGISTRY=r.test:5000", "PLAIN_HTTP=1").stdout
    assert "PLAIN_HTTP=1 docker/push.sh r.test:5000" in planned and "--plain-http k8s" in planned
    for engine in ("podman", "docker"):
        (tmp_path / engine).write_text(f"#!/bin/sh\necho {engine} $* >>{tmp_path}/asked\n")
        (tmp_path / engine).chmod(0o755)
        pushed = subprocess.run(
            [ROOT / "docker/push.sh", "r.test:5000"],
            env={
                **os.environ,
                "ENGINE": str(tmp_path / engine) if engine == "podman" else engine,
                "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
                "PLAIN_HTTP": "1",
            },
            check=False,
        )
        assert pushed.returncode == 0
    asked = (tmp_path / "asked").read_text()
    assert f"podman push --tls-verify=false r.test:5000/untrigger/open-run:{__version__}" in asked
    assert f"docker push r.test:5000/untrigger/open-run:{__version__}" in asked


def test_an_outside_store_without_its_address_is_not_deployed(checkout: Path) -> None:
    refused = deploy(checkout, "external", UNPINNED="1")
    assert refused.returncode != 0 and not (checkout / "applied.yaml").exists()
    assert "the store's own address into k8s/overlays/external/store.env" in refused.stderr


def deploy_outside_store(checkout: Path, settings: str) -> subprocess.CompletedProcess[str]:
    """Deploy with a store in eu-north-1 and the bucket `team`, and with `settings` in store.env."""
    overlay = checkout / "k8s/overlays/external"
    providers = (overlay / "providers.yaml").read_text()
    (overlay / "providers.yaml").write_text(
        providers.replace("example.com", "eu-north-1.amazonaws.com").replace("us-east-1", "eu-north-1")
    )
    (overlay / "pipeline-root").write_text("s3://team/pipelines")
    (overlay / "store.env").write_text(settings + "prefix=\ntrackingBucket=team-mlflow\ntrackingPrefix=\n")
    return deploy(checkout, "external", UNPINNED="1")


def test_an_outside_store_is_deployed_with_its_region_and_buckets(checkout: Path) -> None:
    settings = "endpoint=https://s3.eu-north-1.amazonaws.com\nregion=eu-north-1\nbucket=team\n"
    deployed = deploy_outside_store(checkout, settings)
    assert deployed.returncode == 0, deployed.stderr
    maps = {
        item["metadata"]["namespace"]: item["data"]
        for item in applied(checkout)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] == "untrigger-store"
    }
    assert maps["kubeflow"] == maps["untrigger"]
    assert (maps["untrigger"]["region"], maps["untrigger"]["trackingBucket"]) == ("eu-north-1", "team-mlflow")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("endpoint=https://elsewhere.test\nregion=eu-north-1\nbucket=team\n", "endpoint: elsewhere.test"),
        ("endpoint=https://s3.eu-north-1.amazonaws.com\nregion=us-west-2\nbucket=team\n", "region: us-west-2"),
        ("endpoint=http://s3.eu-north-1.amazonaws.com\nregion=eu-north-1\nbucket=team\n", "disableSSL: true"),
        ("endpoint=https://s3.eu-north-1.amazonaws.com\nregion=eu-north-1\nbucket=its\n", "s3://its/pipelines"),
    ],
)
def test_settings_of_a_store_that_do_not_agree_are_not_deployed(checkout: Path, settings: str, told: str) -> None:
    refused = deploy_outside_store(checkout, settings)
    assert refused.returncode != 0 and not (checkout / "applied.yaml").exists()
    assert "and store.env do not agree" in refused.stderr and f"{told}'" in refused.stderr


def test_what_is_deployed_carries_the_digests(checkout: Path) -> None:
    digest = "@sha256:" + "c" * 64
    pins = {image: f"registry.test/{image.partition(':')[0]}{digest}" for image in named_images([checkout / "k8s"])}
    write_json(checkout / "k8s/images.json", {"images": pins})
    assert deploy(checkout).returncode == 0
    images = images_in(applied(checkout))
    assert images and all("@sha256:" in image for image in images)
    assert f"registry.test/postgres{digest}" in images
