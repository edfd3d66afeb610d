"""Inputs that are named by their address in an object store, and the copies they are read from."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from untrigger.errors import UserError

if TYPE_CHECKING:
    from untrigger.storage.bundles import OnFile

CACHE = "UNTRIGGER_CACHE"
"""Environment variable: the folder that keeps the copies; ~/.cache/untrigger unless given."""

TRIGGER_SUFFIXES = (".png", ".safetensors")

CLASSIFIER_FILES = ("classifier.json", "classifier.safetensors")


def cache_folder() -> Path:
    """Where copies are kept; UserError where nothing says it."""
    try:
        return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "untrigger").resolve()
    except RuntimeError as error:
        raise UserError(f"no folder for copies of what lies in a store: set {CACHE} or HOME") from error


def dataset_name(name: str, on_file: OnFile | None = None) -> str:
    """The dataset's name with an address in a store replaced by its local copy, which is fetched unless it is there.

    Raises UserError when the address holds no dataset or the store cannot be reached.
    """
    if not name.startswith("s3://"):
        return name
    kept = _fetched(name, "dataset", on_file)
    description = json.loads((kept / "manifest.json").read_text())
    return f"{description['dataset']}:{kept / 'files'}"


def classifier_folder(name: str, on_file: OnFile | None = None) -> Path:
    """The folder with the classifier `name`, a folder or an address in a store, which is fetched unless it is there.

    Raises UserError when there is no classifier or the store cannot be reached.
    """
    folder = _fetched(name, "model", on_file) / "files" if name.startswith("s3://") else Path(name)
    for file in CLASSIFIER_FILES:
        if not (folder / file).is_file():
            raise UserError(
                f"{name} holds no classifier, {file} is missing: give the folder `classifier` of a run, "
                "or an address as `untrigger store put` prints it"
            )
    return folder


def is_trigger_file(name: str) -> bool:
    """Whether the trigger `name` is a file of this machine."""
    return name.endswith(TRIGGER_SUFFIXES) and not name.startswith("s3://")


def trigger_path(name: str) -> Path:
    """The file with the trigger `name`, a path or an address in a store, which is fetched unless it is there.

    Raises UserError when the address holds no trigger or the store cannot be reached.
    """
    if not name.startswith("s3://"):
        return Path(name)
    files = list((_fetched(name, "trigger") / "files").iterdir())
    if len(files) != 1 or files[0].suffix not in TRIGGER_SUFFIXES:
        raise UserError(f"{name} holds no trigger: it must be one .png or .safetensors file")
    return files[0]


def kept_copy(name: str, kind: str = "dataset") -> Path:
    """Where the local copy of what is at the address `name` lies, or would lie; UserError when it is no address."""
    digest = name.rstrip("/").rpartition("/")[2]
    if not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise UserError(f"{name!r} is no {kind} in a store: give an address as `untrigger store put` prints it")
    return cache_folder() / f"{kind}s" / digest


def _fetched(name: str, kind: str, on_file: OnFile | None = None) -> Path:
    kept = kept_copy(name, kind)
    if not kept.exists():
        _fetch(name, kind, kept, on_file)
    return kept


def _fetch(name: str, kind: str, kept: Path, on_file: OnFile | None) -> None:
    """The copy appears under `kept` whole or not at all."""
    from untrigger.storage.bundles import content_digest, get_bundle, quiet, read_manifest
    from untrigger.storage.objects import Address, ObjectStore

    address, store = Address.parse(name), ObjectStore()
    manifest = read_manifest(store, address)
    if manifest.kind != kind:
        raise UserError(f"{address} is a {manifest.kind}, not a {kind}")
    if content_digest(manifest) != kept.name:
        raise UserError(f"{address} does not hold the {kind} that its address names: its manifest was changed")
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    try:
        get_bundle(store, address, partial / "files", on_file=on_file or quiet)
        (partial / "manifest.json").write_text(manifest.text())
        try:
            partial.rename(kept)
        except OSError:
            if not kept.exists():  # Another run may have fetched it meanwhile: then its copy stays.
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
