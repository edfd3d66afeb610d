"""Reading and splitting datasets, and what is said when one cannot be read."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.files import picture, write_shard
from untrigger.datasets.cifar import ArraysOnlyUnpickler
from untrigger.datasets.images import load_images, save_images
from untrigger.datasets.sources import check_dataset, read_split
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings

SETTINGS = DataSettings()


def test_the_digits_are_split_three_ways_stratified_and_seeded() -> None:
    split = read_split("digits", SETTINGS, seed=0)
    parts = (split.training, split.defender, split.evaluation)
    assert sum(len(part) for part in parts) == 1797
    assert all(part.images.shape[1:] == (3, 32, 32) and part.images.dtype == torch.uint8 for part in parts)
    for part in parts:
        shares = torch.bincount(part.labels, minlength=10) / len(part)
        assert shares.min() > 0.08 and shares.max() < 0.12
    again, other = read_split("digits", SETTINGS, seed=0), read_split("digits", SETTINGS, seed=1)
    assert torch.equal(again.defender.images, split.defender.images)
    assert not torch.equal(other.defender.labels, split.defender.labels)


def test_no_image_stands_in_two_parts(tmp_path: Path) -> None:
    write_shard(tmp_path / "all.parquet", [picture(value) for value in range(200)], [v % 2 for v in range(200)])
    split = read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)
    values = [set(part.images[:, 0, 0, 0].tolist()) for part in (split.training, split.defender, split.evaluation)]
    assert set.union(*values) == set(range(200))
    assert sum(len(value) for value in values) == 200


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_parquet_shards_keep_every_pixel_and_their_order(tmp_path: Path, kind: str) -> None:
    for shard in range(2):
        values = range(40 * shard, 40 * shard + 40)
        write_shard(
            tmp_path / f"train-0000{shard}-of-00002.parquet",
            [picture(value, kind=kind) for value in values],
            [value % 4 for value in values],
        )
    write_shard(tmp_path / "test-00000-of-00001.parquet", [picture(v) for v in range(100, 140)], [0, 1, 2, 3] * 10)
    split = read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)
    assert split.training.images[:, 1, 5, 5].tolist() == list(range(80))
    assert split.training.labels.tolist() == [value % 4 for value in range(80)]
    assert len(split.defender) == 32 and len(split.evaluation) == 8
    assert int(split.evaluation.images.min()) >= 100


def test_class_names_come_from_the_schema(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [picture(v) for v in range(40)], [0, 1] * 20, class_names=["cat", "dog"])
    assert read_split(f"parquet:{tmp_path}", SETTINGS, seed=0).training.class_names == ("cat", "dog")


def test_class_folders_are_read_with_and_without_a_test_part(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(20):
                (folder / f"{index:02}.png").write_bytes(picture(10 * label + 100 * (part == "test"), (9, 9)))
    split = read_split(f"folder:{tmp_path}", SETTINGS, seed=0)
    assert split.training.class_names == ("cat", "dog")
    assert (len(split.training), len(split.defender), len(split.evaluation)) == (40, 32, 8)
    assert torch.equal(split.training.images[:, 0, 0, 0].long(), 10 * split.training.labels)
    alone = read_split(f"folder:{tmp_path / 'train'}", SETTINGS, seed=0)
    assert len(alone.training) + len(alone.defender) + len(alone.evaluation) == 40


def test_images_of_several_sizes_need_image_size(tmp_path: Path) -> None:
    contents = [picture(v, (12, 12)) for v in range(30)] + [picture(5, (10, 14))] * 10
    write_shard(tmp_path / "a.parquet", contents, [0, 1] * 20)
    with pytest.raises(UserError, match=r"row 30 of .* is 10x14 pixels, .*--data.image-size"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)
    split = read_split(f"parquet:{tmp_path}", DataSettings(image_size=16), seed=0)
    assert split.training.images.shape[1:] == (3, 16, 16)


def test_saved_images_come_back_whole(tmp_path: Path) -> None:
    data = read_split("digits", SETTINGS, seed=0).evaluation
    save_images(data, tmp_path)
    again = load_images(tmp_path)
    assert torch.equal(again.images, data.images) and torch.equal(again.labels, data.labels)
    assert again.class_names == data.class_names


def test_corrupt_image_bytes_are_named_by_their_row(tmp_path: Path) -> None:
    contents = [picture(1)] * 7 + [b"\x89PNG broken"] + [picture(2)] * 8
    write_shard(tmp_path / "a.parquet", contents, [0, 1] * 8)
    with pytest.raises(UserError, match=r"row 7 of .*a\.parquet does not hold a readable image"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_a_truncated_picture_is_named_by_its_row(tmp_path: Path) -> None:
    whole = picture(1, (64, 64))
    write_shard(tmp_path / "a.parquet", [whole, whole[: len(whole) // 2]], [0, 1])
    with pytest.raises(UserError, match=r"row 1 of .*a\.parquet does not hold a readable image"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_a_missing_label_is_named_by_its_row(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [picture(1)] * 3, [0, None, 1])
    with pytest.raises(UserError, match=r"row 1 of .* has the label None"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"image_column": "picture"}, r"no column 'picture': name it with --data.image-column \(columns: img, label\)"),
        ({"label_column": "img"}, "the column 'img' of .* does not hold labels"),
    ],
)
def test_a_wrong_column_is_named_with_the_columns_there_are(
    tmp_path: Path, given: dict[str, str], sentence: str
) -> None:
    write_shard(tmp_path / "a.parquet", [picture(1)] * 4, [0, 1] * 2)
    with pytest.raises(UserError, match=sentence):
        check_dataset(f"parquet:{tmp_path}", DataSettings.of(given))


def test_missing_datasets_are_named(tmp_path: Path) -> None:
    for name, sentence in {
        f"parquet:{tmp_path}/no": "does not exist",
        f"parquet:{tmp_path}": "holds no .parquet file",
        f"folder:{tmp_path}/no": "does not exist",
        f"folder:{tmp_path}": "at least two class folders",
        f"cifar10:{tmp_path}": "add --download to fetch it",
        f"cifar100:{tmp_path}": "add --download to fetch it",
        "mnist": "unknown dataset 'mnist'",
        "parquet:": "unknown dataset 'parquet:'",
    }.items():
        with pytest.raises(UserError, match=sentence):
            check_dataset(name, SETTINGS)


def test_too_few_images_per_class_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [picture(v) for v in range(3)], [0, 1, 1])
    with pytest.raises(UserError, match="cannot split 3 images of 2 classes"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_cifar_is_read_only_with_the_published_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from untrigger.networks.torchvision_import import datasets

    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()

    def batch(start: int, count: int) -> bytes:
        data = np.repeat(np.arange(start, start + count, dtype=np.uint8)[:, None], 3072, axis=1)
        return pickle.dumps({b"data": data, b"labels": [i % 2 for i in range(count)]}, protocol=4)

    files = {
        "batch_1": batch(0, 20),
        "test": batch(100, 40),
        "meta": pickle.dumps({b"label_names": [b"cat", b"dog"]}, protocol=4),
    }
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["batch_1", sums["batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test", sums["test"]]])
    meta = {"filename": "meta", "key": "label_names", "md5": sums["meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    split = read_split(f"cifar10:{tmp_path}", SETTINGS, seed=0)
    assert split.training.images[:, 0, 0, 0].tolist() == list(range(20))
    assert split.training.class_names == ("cat", "dog")
    assert len(split.defender) == 32

    (folder / "batch_1").write_bytes(files["batch_1"][:-1])
    with pytest.raises(UserError, match="batch_1 is damaged"):
        read_split(f"cifar10:{tmp_path}", SETTINGS, seed=0)
    (folder / "batch_1").unlink()
    with pytest.raises(UserError, match="batch_1 is missing"):
        read_split(f"cifar10:{tmp_path}", SETTINGS, seed=0)


class Attack:
    """A pickle that would run code where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_that_names_anything_but_an_array_is_refused_and_does_not_run(tmp_path: Path) -> None:
    content = pickle.dumps({b"data": Attack(tmp_path / "ran")}, protocol=2)
    with pytest.raises(UserError, match="is not an array: it is not opened"):
        ArraysOnlyUnpickler(io.BytesIO(content), encoding="bytes").load()
    assert not (tmp_path / "ran").exists()
