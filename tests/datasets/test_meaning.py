"""What could be read as something else than was meant is refused by name, or read as it was meant."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.files import picture, write_shard
from untrigger.datasets.sources import check_dataset, read_split
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings

SETTINGS = DataSettings()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 1\n"


def class_folders(root: Path, *names: str, count: int = 20) -> Path:
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index:02}.png").write_bytes(picture(10 * label + index))
    return root


def table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    pq.write_table(pa.table({"image": [{"bytes": picture(v % 200)} for v in range(count)], **columns}), path)
    return path.parent


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_a_class_folder_without_a_picture_is_named_before_anything_is_read(tmp_path: Path) -> None:
    data = class_folders(tmp_path, "ant", "bee")
    (data / "cat" / "images").mkdir(parents=True)
    (data / "cat" / "images" / "0.png").write_bytes(picture(1))
    (data / "cat" / "0.heic").touch()
    with pytest.raises(UserError, match=r"class folder .*/cat holds no picture that is read"):
        check_dataset(f"folder:{data}", SETTINGS)


def test_a_class_folder_that_is_not_utf8_is_named_before_anything_is_read(tmp_path: Path) -> None:
    data = class_folders(tmp_path, "the", "cafe")
    (data / "cafe").rename(data / "caf\udce9")
    with pytest.raises(UserError, match=r"the name caf\\xe9 in .* is not UTF-8"):
        check_dataset(f"folder:{data}", SETTINGS)


def test_a_class_that_only_the_schema_knows_is_named(tmp_path: Path) -> None:
    names = ["cat", "dog", "eel"]
    write_shard(tmp_path / "a.parquet", [picture(v) for v in range(40)], [0, 1] * 20, class_names=names)
    with pytest.raises(UserError, match="has no training picture of eel"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_a_gap_in_the_labels_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [picture(v) for v in range(40)], [0, 10**9] * 20)
    with pytest.raises(UserError, match="go up to 1000000000, but none is 1"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_pictures_that_are_all_the_same_are_no_dataset(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [picture(7)] * 40, [0, 1] * 20)
    with pytest.raises(UserError, match=r"all pictures of .* are one and the same"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_the_orientation_tag_turns_a_photograph(tmp_path: Path) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:4] = 255
    tag = Image.Exif()
    tag[274] = 6
    sideways = encoded(Image.fromarray(upright).rotate(90, expand=True), "JPEG", exif=tag, quality=95)
    pictures = [sideways if v % 2 else picture(v, (16, 16)) for v in range(40)]
    write_shard(tmp_path / "a.parquet", pictures, [v % 2 for v in range(40)])
    part = read_split(f"parquet:{tmp_path}", SETTINGS, seed=0).training
    photographs = part.images[part.labels == 1].float()
    assert photographs[:, :, :3].min() > 200 and photographs[:, :, 5:].max() < 60


def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path) -> None:
    pictures = [encoded(Image.fromarray(np.full((12, 12), 257 * v, np.uint16))) for v in range(40)]
    write_shard(tmp_path / "a.parquet", pictures, [0, 1] * 20)
    split = read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)
    parts = (split.training, split.defender, split.evaluation)
    assert {v for part in parts for v in part.images[:, 2, 3, 3].tolist()} == set(range(40))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(Image.new("RGBA", (12, 12), (9, 9, 9, 128))), "has see-through pixels"),
        (encoded(Image.new("P", (12, 12)), transparency=0), "has see-through pixels"),
        (encoded(Image.new("F", (12, 12), 0.5), "TIFF"), "has 32 bits a pixel"),
        (POINTER.encode(), "is a Git LFS pointer.*git lfs pull"),
    ],
)
def test_pixels_that_nobody_can_scale_or_see_are_named_by_their_row(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    write_shard(tmp_path / "a.parquet", [picture(1), content], [0, 1])
    with pytest.raises(UserError, match=rf"row 1 of .*a\.parquet {reason}"):
        read_split(f"parquet:{tmp_path}", SETTINGS, seed=0)


def test_transparency_that_is_not_used_is_no_reason_to_refuse(tmp_path: Path) -> None:
    pictures = [encoded(Image.new("RGBA", (12, 12), (v, v, v, 255))) for v in range(40)]
    write_shard(tmp_path / "a.parquet", pictures, [0, 1] * 20)
    assert int(read_split(f"parquet:{tmp_path}", SETTINGS, seed=0).training.images.max()) < 40


NAMES = [("bee", "ant", "cat")[v % 3] for v in range(120)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (NAMES, ("ant", "bee", "cat")),
        (pa.array(NAMES).dictionary_encode(), ("ant", "bee", "cat")),
        ([float(v % 3) for v in range(120)], ("0", "1", "2")),
        ([v % 2 == 0 for v in range(120)], ("0", "1")),
    ],
)
def test_labels_of_other_types_are_classes_too(tmp_path: Path, labels: Any, classes: tuple[str, ...]) -> None:
    data = table(tmp_path / "a.parquet", species=labels)
    training = read_split(f"parquet:{data}", SETTINGS, seed=0).training
    assert training.class_names == classes
    if "bee" in classes:
        value = training.images[:, 0, 0, 0].tolist()
        assert [training.class_names[label] for label in training.labels.tolist()] == [NAMES[v] for v in value]


def test_a_label_column_is_not_guessed_where_another_could_be_meant(tmp_path: Path) -> None:
    data = table(tmp_path / "a.parquet", species=NAMES, camera=[v % 2 for v in range(120)])
    with pytest.raises(
        UserError, match=r"2 columns that could hold labels: name it with --data.label-column \(columns: "
    ):
        check_dataset(f"parquet:{data}", SETTINGS)
    chosen = DataSettings(label_column="species")
    assert read_split(f"parquet:{data}", chosen, seed=0).training.class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize("label", [0.5, float("nan"), float("inf"), -1.0])
def test_a_label_that_is_no_whole_number_is_named_by_its_row(tmp_path: Path, label: float) -> None:
    data = table(tmp_path / "a.parquet", label=[0.0, label, 1.0])
    with pytest.raises(UserError, match=r"row 1 of .* has the label .*: labels are text, or whole numbers from 0"):
        read_split(f"parquet:{data}", SETTINGS, seed=0)


def test_missing_empty_and_unfetched_shards_are_named(tmp_path: Path) -> None:
    quarter = table(tmp_path / "quarter" / "train-00001-of-00004.parquet", label=[0, 1])
    write_shard(tmp_path / "empty" / "train-00000-of-00001.parquet", [], [])
    table(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", label=[0, 1])
    (tmp_path / "lfs").mkdir()
    (tmp_path / "lfs" / "a.parquet").write_text(POINTER)
    for folder, reason in {
        quarter: r"3 of the 4 shards beside .* are missing, train-00000-of-00004\.parquet first",
        tmp_path / "empty": "holds no rows: its shards are empty",
        tmp_path / "hub": r"holds no .parquet file: name .*/hub/data, which does",
        tmp_path / "lfs": r"a\.parquet is a Git LFS pointer",
    }.items():
        with pytest.raises(UserError, match=reason):
            check_dataset(f"parquet:{folder}", SETTINGS)


def test_what_a_file_manager_leaves_beside_a_shard_is_not_read(tmp_path: Path) -> None:
    data = table(tmp_path / "train-00000-of-00001.parquet", label=[v % 2 for v in range(40)])
    (data / "._train-00000-of-00001.parquet").write_bytes(b"\0\5\x16\7 Mac OS X")
    assert read_split(f"parquet:{data}", SETTINGS, seed=0).training.class_names == ("0", "1")


@pytest.mark.parametrize("others", [("validation",), ("test", "val")])
def test_validation_shards_and_folders_are_not_trained_on(tmp_path: Path, others: tuple[str, ...]) -> None:
    for name in ("train", *others):
        table(tmp_path / "shards" / f"{name}-00000-of-00001.parquet", label=[v % 2 for v in range(40)])
        class_folders(tmp_path / "folders" / name, "ant", "bee")
    for name in ("parquet:shards", "folder:folders"):
        kind, _, folder = name.partition(":")
        split = read_split(f"{kind}:{tmp_path / folder}", SETTINGS, seed=0)
        assert len(split.training) == 40
        assert len(split.defender) + len(split.evaluation) == 40 * len(others)
