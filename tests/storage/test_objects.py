"""The object store, against a real S3 server (SeaweedFS)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from minio import Minio
from PIL import Image
from safetensors.torch import save_file

from tests.support.files import file_of, picture, write_shard
from tests.support.servers import RunningServers, free_port
from untrigger.classifiers import Classifier, load_classifier, save_classifier
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.runs.publishing import publish
from untrigger.settings.methods import DataSettings
from untrigger.storage.bundles import get_bundle, read_manifest
from untrigger.storage.downloads import CACHE
from untrigger.storage.objects import Address, ObjectStore, checksums
from untrigger.storage.servers import seaweedfs_command
from untrigger.storage.sources import model_place
from untrigger.triggers import read_trigger

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def running(servers: RunningServers) -> RunningServers:
    """The servers, which an earlier module may have left stopped."""
    servers.up()
    return servers


@pytest.fixture(autouse=True)
def environment(running: RunningServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("UNTRIGGER_STORE_PATIENCE", "3")


def client(running: RunningServers) -> Minio:
    environment = running.environment
    return Minio(
        environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )


@pytest.mark.parametrize("size", [0, 10, 16 * 2**20, 40 * 2**20 + 7])
def test_a_file_comes_back_as_it_was_and_is_uploaded_once(tmp_path: Path, size: int) -> None:
    path, target = file_of(tmp_path / "file", size), Address("untrigger", f"sizes/{size}")
    store = ObjectStore()
    assert store.put(path, target)
    assert not store.put(path, target), "it is there, verified"
    store.get(target, tmp_path / "back", checksums(path).sha256)
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_another_content_under_the_same_key_is_uploaded_again(tmp_path: Path) -> None:
    target = Address("untrigger", "changing")
    ObjectStore().put(file_of(tmp_path / "a", 1000, seed=1), target)
    assert ObjectStore().put(file_of(tmp_path / "b", 1000, seed=2), target)
    with pytest.raises(UserError, match="is damaged"):
        ObjectStore().get(target, tmp_path / "back", checksums(tmp_path / "a").sha256)
    assert not (tmp_path / "back").exists() and not (tmp_path / "back.partial").exists()


def test_wrong_credentials_and_a_missing_bucket_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, began = file_of(tmp_path / "file", 10), time.monotonic()
    with pytest.raises(UserError, match=r"no bucket 'nowhere'.*store create s3://nowhere"):
        ObjectStore().put(path, Address("nowhere", "file"))
    with pytest.raises(UserError, match="no bucket 'nowhere'"):
        ObjectStore().check_bucket("nowhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="refuses the credentials"):
        ObjectStore().put(path, Address("untrigger", "file"))
    with pytest.raises(UserError, match="refuses the credentials"):
        ObjectStore().check_bucket("untrigger")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY is not set"):
        ObjectStore()
    assert time.monotonic() - began < 3, "waiting would not help"


def test_a_store_that_is_not_there_is_named_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the store at http://127.0.0.1:9 did not do it within 3 s"):
        ObjectStore().check_bucket("untrigger")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    with pytest.raises(UserError, match="must stand in AWS_ENDPOINT_URL"):
        ObjectStore()


@pytest.mark.parametrize("text", ["untrigger", "http://untrigger/a", "s3://", "s3:///a", "s3://b/a?x=1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="s3://bucket"):
        Address.parse(text)


def test_an_upload_goes_on_when_a_killed_store_comes_back_and_nothing_truncated_is_ever_seen(
    running: RunningServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = file_of(tmp_path / "large", 300 * 2**20), "interrupted/large"
    expected = checksums(path)
    monkeypatch.setenv("UNTRIGGER_STORE_PATIENCE", "120")
    upload = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from untrigger.storage.objects import Address, ObjectStore\n"
            f"ObjectStore(on_wait=print).put(Path(sys.argv[1]), Address('untrigger', {key!r}))",
            str(path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until_parts_arrive(running)
    running.kill("seaweedfs")
    assert upload.poll() is None, "the store was killed in the middle of the upload"
    time.sleep(2)
    running.up()
    seen = {item.object_name for item in client(running).list_objects("untrigger", "interrupted/", recursive=True)}
    told, _ = upload.communicate(timeout=120)
    assert upload.returncode == 0 and "does not answer, waiting for it" in told
    assert key not in seen, "an unfinished upload has no key"
    ObjectStore().get(Address("untrigger", key), tmp_path / "back", expected.sha256)


def wait_until_parts_arrive(running: RunningServers) -> None:
    objects = running.servers.folder / "objects"
    before, deadline = used(objects), time.monotonic() + 60
    while used(objects) < before + 40 * 2**20:
        assert time.monotonic() < deadline, "no part arrived"
        time.sleep(0.02)


def used(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test_the_same_dataset_is_stored_once_and_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        write_shard(tmp_path / folder / "a.parquet", [picture(value) for value in range(40)], [0, 1] * 20)
    told: list[bool] = []
    first = publish(f"parquet:{tmp_path / 'one'}", "s3://untrigger/data", lambda *call: told.append(call[3]))
    second = publish(f"parquet:{tmp_path / 'two'}", "s3://untrigger/data", lambda *call: told.append(call[3]))
    assert first == second and told == [True, False]
    split = read_split(str(first), DataSettings(), seed=0)
    assert len(split.training) + len(split.defender) + len(split.evaluation) == 40
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert len(read_split(str(first), DataSettings(), seed=0).training) == len(split.training), "the copy is kept"


def test_a_model_comes_back_by_its_address(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_classifier(tiny_classifier, tmp_path / "model")
    address = publish(str(tmp_path / "model"), "s3://untrigger")
    assert address.prefix.startswith("models/")
    get_bundle(ObjectStore(), address, tmp_path / "back")
    assert load_classifier(tmp_path / "back").settings == tiny_classifier.settings


def test_a_model_file_made_elsewhere_is_taken_by_its_address(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "model.pth")
    address = publish(str(tmp_path / "model.pth"), "s3://untrigger")
    assert address.prefix.startswith("models/")
    assert model_place(str(address)).read_bytes() == (tmp_path / "model.pth").read_bytes()


def test_a_file_of_tensors_is_taken_for_what_it_holds(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_file({"conv1.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    save_file({"trigger": torch.ones(3, 2, 2)}, tmp_path / "patch.safetensors")
    save_classifier(tiny_classifier, tmp_path / "classifier")
    names = ("model.safetensors", "patch.safetensors", "classifier/classifier.safetensors")
    model, patch, classifier = (publish(str(tmp_path / name), "s3://untrigger") for name in names)
    assert [each.prefix.partition("/")[0] for each in (model, patch, classifier)] == ["models", "triggers", "models"]
    assert model_place(str(model)).name == "model.safetensors"
    assert load_classifier(model_place(str(classifier))).settings == tiny_classifier.settings


def test_a_trigger_is_read_by_its_address(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (255, 0, 51)).save(tmp_path / "patch.png")
    address = publish(str(tmp_path / "patch.png"), "s3://untrigger")
    assert address.prefix.startswith("triggers/")
    assert torch.equal(read_trigger(str(address)), read_trigger(str(tmp_path / "patch.png")))


def test_what_is_stored_as_something_else_is_no_trigger(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_classifier(tiny_classifier, tmp_path / "model")
    address = publish(str(tmp_path / "model"), "s3://untrigger")
    with pytest.raises(UserError, match=f"{address} is a model, not a trigger"):
        read_trigger(str(address))


def test_what_cannot_be_stored_or_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is nothing to store"):
        publish(str(tmp_path), "s3://untrigger")
    with pytest.raises(UserError, match="there is nothing at s3://untrigger/runs/abc"):
        read_manifest(ObjectStore(), Address.parse("s3://untrigger/runs/abc"))


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", ""])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(
    running: RunningServers, tmp_path: Path, name: str
) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    text = f'{{"format": 1, "kind": "model", "files": {{"{name}": {{"bytes": 1, "sha256": "{digest}"}}}}}}'
    ObjectStore().put_bytes(text.encode(), Address("untrigger", "models/hostile/manifest.json"))
    with pytest.raises(UserError, match="not a manifest that this version reads"):
        get_bundle(ObjectStore(), Address.parse("s3://untrigger/models/hostile"), tmp_path / "here")


def test_a_store_without_space_is_reported_and_holds_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: RunningServers
) -> None:
    """SeaweedFS takes no more data as soon as its disk has less free space than it was told to keep."""
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    command = [*seaweedfs_command(Path(), port), "-volume.minFreeSpace=100"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    try:
        monkeypatch.setenv("UNTRIGGER_STORE_PATIENCE", "30")
        ObjectStore().make_bucket("full")
        monkeypatch.setenv("UNTRIGGER_STORE_PATIENCE", "3")
        with pytest.raises(UserError, match="its disk is not full"):
            ObjectStore().put(file_of(tmp_path / "file", 2**20), Address("full", "file"))
        assert ObjectStore().names(Address("full")) == []
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("region", ["us-east-1", "eu-north-1"])
def test_the_tracking_servers_image_creates_the_buckets_that_are_missing(
    running: RunningServers, region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "mlflow"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("BUCKETS", f"made-in-{region} untrigger")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    entry = Path(__file__).parents[2] / "docker/mlflow_server.py"
    ended = subprocess.run([sys.executable, entry, "--extra"], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.startswith("server --host") and ended.stdout.endswith("--extra\n")
    assert client(running).bucket_exists(f"made-in-{region}") and client(running).bucket_exists("untrigger")
