"""Files for the tests to read: pictures, shards of datasets, bytes of any number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(value: int, size: tuple[int, int] = (12, 12), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).save(stream, kind, lossless=True)
    return stream.getvalue()


def write_shard(
    path: Path, contents: list[Any], labels: list[Any], column: str = "img", class_names: list[str] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array(
        [{"bytes": content, "path": None} for content in contents],
        type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({column: images, "label": pa.array(labels, type=pa.int64())})
    if class_names is not None:
        features = {"label": {"names": class_names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def file_of(path: Path, size: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path
