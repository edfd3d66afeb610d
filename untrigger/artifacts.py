"""The file formats of all artifacts: safetensors for tensors, JSON with a `format` version for the rest.

torch is imported only where tensors are: two stages do without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from untrigger.errors import UserError, shown_name

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with the format version in front; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"format": FORMAT, **content}, indent=2, allow_nan=False) + "\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without its format version; raises UserError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, str(path)), str(path))


def parse_json(text: str | bytes, source: str) -> dict[str, Any]:
    """The content of a file that `write_json` wrote, read at `source`; UserError when damaged or of another format."""
    content = parse_object(text, source)
    if (found := content.pop("format", None)) != FORMAT:
        raise UserError(f"{source} has format {found!r}, this version of untrigger reads format {FORMAT}")
    return content


def parse_object(text: str | bytes, source: str) -> dict[str, Any]:
    """The JSON object in `text`, which was found at `source`; UserError when there is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{source} must be a JSON object")
    return content


def read_text(path: Path, source: str) -> str:
    """The text of a file in UTF-8, without a byte order mark; UserError that calls the file `source`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not text in UTF-8: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; the file appears whole or not at all. UserError when the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    except SafetensorError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    partial.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors onto the CPU; UserError when the file is missing or damaged, or numbers in it not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        refuse_pointer(path, str(path))
        raise UserError(f"{path} is not a valid safetensors file: {error}") from error
    for name, tensor in tensors.items():
        # Floating-point numbers of eight bits have no test of their own.
        if not bool((tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all()):
            told = f"the tensor {shown_name(name)} holds numbers that are not finite (NaN or infinite)"
            raise UserError(f"{path}: {told}")
    return tensors


def refuse_pointer(content: Path | bytes, place: str) -> None:
    """UserError when a file, or its content, is what Git LFS leaves in the place of one that it did not fetch."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            content = file.read(len(LFS_POINTER))
    if content.startswith(LFS_POINTER):
        raise UserError(f"{place} is a Git LFS pointer, not the file itself: `git lfs pull` fetches it")
