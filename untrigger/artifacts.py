"""The file formats of all artifacts: safetensors for tensors, JSON with a `format` version for the rest.

torch is imported only where tensors are: two stages do without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from untrigger.errors import UserError

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
    """Read what `write_json` wrote; UserError when it is missing, damaged or of another format."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise UserError(f"{path} has format {found!r}, this version of untrigger reads format {FORMAT}")
    return content


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors onto the CPU; UserError when the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        refuse_pointer(path, str(path))
        raise UserError(f"{path} is not a valid safetensors file: {error}") from error


def refuse_pointer(content: Path | bytes, place: str) -> None:
    """UserError when a file, or its content, is what Git LFS leaves in the place of one that it did not fetch."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            content = file.read(len(LFS_POINTER))
    if content.startswith(LFS_POINTER):
        raise UserError(f"{place} is a Git LFS pointer, not the file itself: `git lfs pull` fetches it")
