"""What is given by name, and what stands for its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.files import file_of, picture, write_shard
from untrigger.classifiers import Classifier, save_classifier
from untrigger.datasets.sources import dataset_source
from untrigger.errors import UserError
from untrigger.settings.base import home_expanded
from untrigger.settings.runs import DefenseConfig
from untrigger.storage.sources import Source, model_place


@pytest.mark.parametrize("kind", ["dataset", "model", "trigger"])
def test_an_address_is_that_of_something_that_was_put(kind: str) -> None:
    source = Source.of(kind, f"s3://bucket/things/{32 * 'a'}")  # type: ignore[arg-type]
    assert source.stored and source.path is None
    with pytest.raises(UserError, match=f"is no {kind} in a store"):
        Source.of(kind, "s3://bucket/things/short")  # type: ignore[arg-type]


def test_built_in_and_on_file_are_told_apart() -> None:
    assert Source.of("trigger", "binary:3").path is None and Source.of("trigger", "binary:3").files() == []
    assert Source.of("trigger", "marks/PATCH.PNG").path == Path("marks/PATCH.PNG")
    assert dataset_source("digits").path is None and dataset_source("digits").identity() == "digits"
    assert dataset_source("cifar10").path == Path("data")
    assert dataset_source("cifar100:elsewhere").identity() == "cifar100", "its sums are published"


def test_home_is_expanded_where_a_path_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert home_expanded("folder:~/data") == "folder:/home/somebody/data"
    assert home_expanded("~/patch.png") == "/home/somebody/patch.png"
    assert home_expanded("folder:a~b") == "folder:a~b" and home_expanded("s3://b/~x") == "s3://b/~x"
    assert dataset_source("parquet:~/x").path == Path("/home/somebody/x")


def test_a_name_that_is_not_utf8_is_refused_at_once() -> None:
    for setting in ("dataset", "weights", "trigger"):
        with pytest.raises(UserError, match=rf"{setting}: names of files and folders must be UTF-8, got .*caf.*udce9"):
            DefenseConfig.of({setting: "folder:caf\udce9.png"})


def test_the_same_shards_are_the_same_dataset_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("data", "copy"):
        write_shard(tmp_path / folder / "a.parquet", [picture(1)] * 2, [0, 1])
        (tmp_path / folder / "README").write_text(folder)
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    names = ("data", "./data", "data/", "link", "copy", "data/a.parquet", str(tmp_path / "data"))
    assert len({dataset_source(f"parquet:{name}").identity() for name in names}) == 1
    before = dataset_source("parquet:data").identity()
    write_shard(tmp_path / "data" / "a.parquet", [picture(2)] * 2, [0, 1])
    assert dataset_source("parquet:data").identity() != before


def test_a_trigger_is_its_content_and_a_classifier_its_two_files(tmp_path: Path, tiny_classifier: Classifier) -> None:
    (tmp_path / "patch.png").write_bytes(picture(3))
    (tmp_path / "other.png").symlink_to("patch.png")
    identities = {Source.of("trigger", str(tmp_path / name)).identity() for name in ("patch.png", "other.png")}
    assert len(identities) == 1
    save_classifier(tiny_classifier, tmp_path / "model")
    model = Source.of("model", str(tmp_path / "model"))
    before = model.identity()
    (tmp_path / "model" / "curves.json").write_text("{}")
    assert model.identity() == before
    (tmp_path / "model" / "classifier.json").unlink()
    with pytest.raises(UserError, match=r"holds no classifier, classifier\.json is missing"):
        model.identity()


def test_what_links_lead_to_must_be_seen_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "blobs" / "one", [picture(1)], [0])
    write_shard(tmp_path / "data" / "b.parquet", [picture(1)], [0])
    (tmp_path / "data" / "a.parquet").symlink_to(tmp_path / "blobs" / "one")
    source = dataset_source(f"parquet:{tmp_path / 'data'}")
    assert source.places() == [tmp_path / "data", tmp_path / "blobs" / "one"]


def test_a_model_file_is_the_same_by_any_name_and_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIGGER_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "models" / (32 * "a") / "files"
    for file in (tmp_path / "one.pth", tmp_path / "two.pt", kept / "three.ckpt"):
        file_of(file, 100)
    names = (str(tmp_path / "one.pth"), str(tmp_path / "two.pt"), f"s3://bucket/models/{32 * 'a'}")
    assert len({Source.of("model", name).identity() for name in names}) == 1
    assert [model_place(name).name for name in names] == ["one.pth", "two.pt", "three.ckpt"]
    assert Source.of("model", names[0]).places() == [tmp_path / "one.pth"]


def test_the_weights_of_a_run_are_taken_with_the_description_beside_them(
    tmp_path: Path, tiny_classifier: Classifier
) -> None:
    save_classifier(tiny_classifier, tmp_path / "classifier")
    weights = tmp_path / "classifier" / "classifier.safetensors"
    assert model_place(str(weights)) == tmp_path / "classifier"
    assert Source.of("model", str(weights)).identity() == Source.of("model", str(weights.parent)).identity()
