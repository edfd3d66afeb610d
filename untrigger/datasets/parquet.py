"""Parquet shards in the Hugging Face image layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from untrigger.datasets.decoding import Encoded, OnProgress, decoded_parts
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings
from untrigger.storage.files import entries


def check_parquet(path: Path, settings: DataSettings) -> None:
    """UserError when there are no shards at `path`, or one has no such columns."""
    for file in parquet_files(path):
        find_columns(file, settings)


def parquet_files(path: Path) -> list[Path]:
    """The shards at `path`, a folder or one file."""
    if not path.exists():
        raise UserError(f"the dataset folder {path} does not exist")
    files = [file for file in entries(path) if file.suffix == ".parquet"] if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no .parquet file")
    return files


def read_parquet(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    """The images in the shards at `path`, those of the test shards apart if there are any."""
    files = parquet_files(path)
    test_files = [file for file in files if file.name.startswith("test")]
    if len(test_files) == len(files):
        test_files = []
    train_files = [file for file in files if file.name.startswith("train")] if test_files else files
    if not train_files:
        raise UserError(f"{path} has test shards but none whose name begins with train")
    training = _read_shards(train_files, settings)
    test = _read_shards(test_files, settings)
    names = _parquet_class_names(files[0], settings)
    classes = names or tuple(str(label) for label in range(max(training.labels + test.labels) + 1))
    return decoded_parts(training, test, classes, settings.image_size, on_progress)


def _read_shards(files: list[Path], settings: DataSettings) -> Encoded:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = Encoded([], [], [])
    for file in files:
        image_column, label_column = find_columns(file, settings)
        try:
            table = pq.read_table(file, columns=[image_column, label_column])
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        values, labels = table[image_column].to_pylist(), table[label_column].to_pylist()
        for row, (value, label) in enumerate(zip(values, labels, strict=True)):
            place = f"row {row} of {file}"
            content = value["bytes"] if isinstance(value, dict) else value
            if content is None:
                raise UserError(f"{place} has no image bytes in the column {image_column}")
            if label is None or label < 0:
                raise UserError(f"{place} has the label {label}: labels are whole numbers from 0")
            rows.places.append(place)
            rows.contents.append(content)
            rows.labels.append(label)
    return rows


def find_columns(file: Path, settings: DataSettings) -> tuple[str, str]:
    import pyarrow as pa

    def holds_images(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    schema = _parquet_schema(file)
    images = _one_column(schema, settings.image_column, holds_images, "image", file)
    return images, _one_column(schema, settings.label_column, pa.types.is_integer, "label", file)


def _one_column(schema: Any, given: str | None, fits: Callable[[Any], bool], what: str, file: Path) -> str:
    fitting = [field.name for field in schema if fits(field.type)]
    remedy = f"name it with --data.{what}-column (columns: {', '.join(schema.names)})"
    if given is not None:
        if given not in schema.names:
            raise UserError(f"{file} has no column {given!r}: {remedy}")
        if given not in fitting:
            raise UserError(f"the column {given!r} of {file} does not hold {what}s: {remedy}")
        return given
    if len(fitting) != 1:
        found = f"{len(fitting)} columns that could hold {what}s" if fitting else f"no column that holds {what}s"
        raise UserError(f"{file} has {found}: {remedy}")
    return fitting[0]


def _parquet_schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file} is not a Parquet file: {error}") from error


def _parquet_class_names(file: Path, settings: DataSettings) -> tuple[str, ...] | None:
    """The class names that Hugging Face datasets keep in the schema's metadata, if there are any."""
    metadata = (_parquet_schema(file).metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        feature = json.loads(metadata)["info"]["features"][find_columns(file, settings)[1]]
        return tuple(feature["names"])
    except (ValueError, KeyError, TypeError):
        return None
