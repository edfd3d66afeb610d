"""The weights in an archive of `torch.export.save` (.pt2), without torch's own reader, which unpickles things."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from untrigger.artifacts import parse_object
from untrigger.checkpoints.archives import stored_members
from untrigger.errors import UserError, shown_name
from untrigger.settings.base import Frozen

CONFIG = "_weights_config.json"
FOLDER = "/data/weights/"

_TYPES = {5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16}
"""By the numbers of torch's schema of exported programs: weights, and the counters of batch norm."""


class _Described(Frozen):
    model_config = ConfigDict(extra="ignore")


class _Number(_Described):
    as_int: int = Field(ge=0, lt=2**40)


class _Tensor(_Described):
    dtype: int
    sizes: tuple[_Number, ...]
    strides: tuple[_Number, ...]
    storage_offset: _Number


class _Payload(_Described):
    path_name: str
    use_pickle: bool
    tensor_meta: _Tensor | None = None


class _Weights(_Described):
    config: dict[str, _Payload]


def read_exported(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by their full names, on the CPU; graph and sample inputs are not looked at.

    Raises UserError, in one sentence, when a tensor is a pickle or is not all there.
    """
    with zipfile.ZipFile(path) as archive:
        names = {member.filename for member in stored_members(path, archive)}
        configs = [name for name in names if FOLDER in name and name.endswith(CONFIG)]
        if len(configs) != 1:
            raise UserError(
                f"{path} holds the raw weights of {len(configs)} models, not of one: save one model with the "
                "torch.export.save of torch 2.9 or later, or torch.save(model.state_dict(), FILE)"
            )
        root = configs[0].partition(FOLDER)[0]
        if any(archive.read(name) != b"little" for name in names & {f"{root}/byteorder"}):
            raise UserError(f"{path} was written on a machine of another byte order: save it on this one")
        found = _Weights.of(parse_object(archive.read(configs[0]), f"{path}: {configs[0]}"), str(path))
        tensors, files = {}, dict[str, bytearray]()
        for name, payload in found.config.items():
            if payload.path_name not in files:
                files[payload.path_name] = bytearray(archive.read(f"{root}{FOLDER}{payload.path_name}"))
            tensors[name] = _tensor(path, files[payload.path_name], name, payload)
            if sum(tensor.nbytes for tensor in tensors.values()) > path.stat().st_size:
                raise UserError(f"{path} declares more numbers than it has bytes, as a zip bomb does: save it anew")
        return tensors


def _tensor(path: Path, stored: bytearray, name: str, payload: _Payload) -> Tensor:
    meta = payload.tensor_meta
    if payload.use_pickle or meta is None:
        raise UserError(
            f"{path} holds {shown_name(name)} as a pickle, which was not run: save torch.save(model.state_dict(), FILE)"
        )
    if meta.dtype not in _TYPES:
        raise UserError(
            f"{path} holds {shown_name(name)} in numbers of kind {meta.dtype}, which no weights are: save it as float32"
        )
    sizes, strides = ([number.as_int for number in numbers] for numbers in (meta.sizes, meta.strides))
    flat = torch.frombuffer(stored, dtype=_TYPES[meta.dtype])
    offset = meta.storage_offset.as_int
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if torch.Size(sizes).numel() > len(flat) or last >= len(flat):
        raise UserError(f"{path} does not hold all of {shown_name(name)}: save it anew")
    return flat.as_strided(sizes, strides, offset).clone(memory_format=torch.contiguous_format)
