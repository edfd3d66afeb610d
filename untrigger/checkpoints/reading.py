"""Reading the file of somebody else: tensors and plain containers come in, and nothing in it is ever run.

Two barriers stand one behind the other. Every name that a pickle asks for is looked up in a short list before anything
is read; then torch's weights-only reader, which has a list of its own, reads it. Arrays of numpy, which research code
keeps beside the weights, are read past: numpy is never called.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from untrigger.artifacts import read_tensors, refuse_pointer
from untrigger.checkpoints.archives import stored_members
from untrigger.checkpoints.exported import read_exported
from untrigger.checkpoints.pickles import ENCODE, names_asked_for
from untrigger.errors import UserError

ZIP = b"PK\x03\x04"
BY_SUFFIX = {".safetensors": "safetensors", ".pt2": "torch.export", ".onnx": "ONNX"}
"""The kinds that are told by their names."""

LEGACY_PICKLES = 5
"""What precedes the numbers in a file from before torch 1.6: magic number, version, system, content, and keys."""

_CORES = ("core", "_core")  # older and newer versions of numpy
_NUMPY = ("ndarray", "dtype", *(f"{core}.multiarray.{name}" for core in _CORES for name in ("_reconstruct", "scalar")))
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")

ALLOWED = frozenset(
    (
        "collections.OrderedDict",
        ENCODE,
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        *(f"torch._utils._rebuild_{what}" for what in ("tensor", "tensor_v2", "parameter")),
        *(f"torch.{number}Storage" for number in _STORAGES),
        *(f"numpy.{name}" for name in _NUMPY),
    )
)
"""The only names that a pickle may hold."""


class _ReadPast:
    """Stands where numpy's arrays and numbers stood in the file."""

    def __init__(self, *what: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_LEFT_OUT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_ReadPast, f"numpy.{name}") for name in _NUMPY]


def file_kind(path: Path) -> str:
    """What a file is by its name or its first bytes; UserError when it cannot be read, or is what Git LFS leaves."""
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP))
        refuse_pointer(path, str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return BY_SUFFIX.get(path.suffix.lower()) or ("torch zip" if start == ZIP else "torch legacy")


def read_checkpoint(path: Path) -> Any:
    """What a file of tensors holds, on the CPU.

    Raises UserError, in one sentence, when the file is damaged, larger inside than outside, or holds anything but
    tensors, numpy arrays (left out) and plain containers.
    """
    kind = file_kind(path)
    if kind == "safetensors":
        return read_tensors(path)
    try:
        if kind == "torch.export":
            return read_exported(path)
        for name in _names_in_zip(path) if kind == "torch zip" else _names_in_legacy(path):
            _refuse_unknown(path, name)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_LEFT_OUT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged or hostile file may fail in any way
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as tensors, it is damaged or of another kind: {reason}") from error


def _refuse_unknown(path: Path, name: str) -> None:
    if name not in ALLOWED:
        raise UserError(
            f"{path} holds {name!r}, which makes no tensor and was not run: save the state dict alone, "
            "torch.save(model.state_dict(), FILE), or as safetensors"
        )


def _names_in_zip(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        members = stored_members(path, archive)
        pickles = [member for member in members if member.filename.lower().endswith("/data.pkl")]
        if len(pickles) != 1 or any("/code/" in member.filename for member in members):
            raise UserError(
                f"{path} is a zip, but no state dict of torch.save: save torch.save(model.state_dict(), FILE)"
            )
        with archive.open(pickles[0]) as file:
            yield from names_asked_for(file)


def _names_in_legacy(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            yield from names_asked_for(file)
