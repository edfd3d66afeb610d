"""Parquet shards in the Hugging Face image layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from untrigger.artifacts import refuse_pointer
from untrigger.datasets.decoding import HELD_OUT, Encoded, OnProgress, decoded_parts
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings
from untrigger.storage.files import entries


def check_parquet(path: Path, settings: DataSettings) -> None:
    """UserError when there are no shards at `path`, or one has no such columns."""
    files = parquet_files(path)
    for file in files:
        find_columns(file, settings)
    if not any(_parquet_footer(file).num_rows for file in files):
        raise UserError(f"{path} holds no rows: its shards are empty")


def parquet_files(path: Path) -> list[Path]:
    """The shards at `path`, a folder or one file."""
    if not path.exists():
        raise UserError(f"the dataset folder {path} does not exist")
    if path.is_file():
        return [path]
    files = [file for file in entries(path) if file.suffix == ".parquet"]
    if not files:
        deeper = next(iter(sorted(path.glob("**/*.parquet"))), None)
        raise UserError(f"{path} holds no .parquet file" + (f": name {deeper.parent}, which does" if deeper else ""))
    _check_complete(files)
    return files


def _check_complete(files: list[Path]) -> None:
    """UserError when the names of shards tell of others that are not there."""
    names = {file.name for file in files}
    for name in sorted(names):
        if found := re.fullmatch(r"(.*-)(\d+)(-of-)(\d+)(\.parquet)", name):
            start, digits, of, count, end = found.groups()
            expected = (f"{start}{index:0{len(digits)}}{of}{count}{end}" for index in range(int(count)))
            if missing := [other for other in expected if other not in names]:
                raise UserError(
                    f"{len(missing)} of the {int(count)} shards beside {name} are missing, {missing[0]} first: "
                    "fetch them, or rename the others if they are all"
                )


def read_parquet(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    """The images in the shards at `path`, those of test and validation shards apart if there are any."""
    files = parquet_files(path)
    heldout = [file for file in files if re.match(rf"({'|'.join(HELD_OUT)})(?![a-z])", file.name)]
    if len(heldout) == len(files):
        heldout = []
    training = [file for file in files if file not in heldout]
    for file in training:
        if heldout and not file.name.startswith("train"):
            raise UserError(f"the name of {file} begins neither with train nor as that of {heldout[0].name}: rename it")
    rows, apart = _read_shards(training, settings), _read_shards(heldout, settings)
    classes = _classes(files[0], rows.labels + apart.labels, settings)
    return decoded_parts(_numbered(rows, classes), _numbered(apart, classes), classes, settings.image_size, on_progress)


@dataclass
class _Rows:
    """Rows as the shards have them: where each one stands, its picture, its label."""

    places: list[str] = field(default_factory=list)
    contents: list[bytes | Path] = field(default_factory=list)
    labels: list[str] | list[int] = field(default_factory=list)


def _read_shards(files: list[Path], settings: DataSettings) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _Rows()
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
            rows.places.append(place)
            rows.contents.append(content)
            rows.labels.append(_label(label, place))
    return rows


def _label(label: Any, place: str) -> Any:
    """Text as it is; a number as int, since a merge of tables leaves whole numbers as floats."""
    if isinstance(label, str):
        return label
    if isinstance(label, int | float) and label >= 0 and label % 1 == 0:
        return int(label)
    raise UserError(f"{place} has the label {label}: labels are text, or whole numbers from 0")


def _classes(file: Path, labels: list[Any], settings: DataSettings) -> tuple[str, ...]:
    """The names of the classes in their order: the alphabet's for text, else as the schema of `file` names them."""
    if len({type(label) for label in labels}) > 1:
        raise UserError(f"the shards beside {file} have text as labels and numbers, too: bring them to one kind")
    if isinstance(labels[0], str):
        return tuple(sorted(set(labels)))
    if names := _class_label(file, find_columns(file, settings)[1]):
        return names
    found = set(labels)
    if len(found) <= max(found):
        missing = next(label for label in range(max(found)) if label not in found)
        raise UserError(f"labels beside {file} go up to {max(found)}, but none is {missing}: number the classes from 0")
    return tuple(str(label) for label in range(len(found)))


def _numbered(rows: _Rows, classes: tuple[str, ...]) -> Encoded:
    """The same rows with numbers as labels."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[label] if isinstance(label, str) else label for label in rows.labels]
    return Encoded(rows.places, rows.contents, labels)


def find_columns(file: Path, settings: DataSettings) -> tuple[str, str]:
    """The columns of images and labels; UserError when settings do not say what the shard leaves open."""
    import pyarrow as pa

    def holds_images(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    def holds_labels(kind: Any) -> bool:
        types = pa.types
        tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
        return any(fits(kind) for fits in (*tests, types.is_dictionary))

    schema = _parquet_footer(file).schema.to_arrow_schema()
    images = _one_column(schema, settings.image_column, holds_images, "image", file)
    declared = [name for name in schema.names if _class_label(file, name)]
    named = declared if len(declared) == 1 else [name for name in ("label",) if name in schema.names]
    given = settings.label_column or (named[0] if named else None)
    return images, _one_column(schema, given, holds_labels, "label", file)


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


def _parquet_footer(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        refuse_pointer(file, str(file))
        raise UserError(f"{file} is not a Parquet file: {error}") from error


def _class_label(file: Path, column: str) -> tuple[str, ...]:
    """The class names that Hugging Face datasets keep in the schema's metadata for a column; none where they do not."""
    metadata = (_parquet_footer(file).metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(json.loads(metadata)["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError):
        return ()
