"""Inputs that are named by their address in an object store, and the copies they are read from."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from untrigger.errors import UserError
from untrigger.storage.files import FOLDERS

CACHE = "UNTRIGGER_CACHE"
"""Environment variable: the folder that keeps the copies; ~/.cache/untrigger unless given."""


def cache_folder() -> Path:
    """Where copies are kept; UserError where nothing says it."""
    try:
        return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "untrigger").resolve()
    except RuntimeError as error:
        raise UserError(f"no folder for copies of what lies in a store: set {CACHE} or HOME") from error


def kept_copy(kind: str, address: str) -> Path:
    """Where the copy of what is at `address` lies, or would lie."""
    return cache_folder() / FOLDERS[kind] / address.rstrip("/").rpartition("/")[2]


def fetched(kind: str, address: str) -> Path:
    """The copy of what is at `address`, fetched unless it is there: its files in `files`, and its `manifest.json`.

    Raises UserError when the address holds no `kind` or the store cannot be reached.
    """
    kept = kept_copy(kind, address)
    if not kept.exists():
        _fetch(kind, address, kept)
    return kept


def _fetch(kind: str, name: str, kept: Path) -> None:
    """The copy appears under `kept` whole or not at all."""
    from untrigger.storage.bundles import digest_of_manifest, get_bundle, read_manifest
    from untrigger.storage.objects import Address, ObjectStore

    address, store = Address.parse(name), ObjectStore()
    manifest = read_manifest(store, address)
    if manifest.kind != kind:
        raise UserError(f"{address} is a {manifest.kind}, not a {kind}")
    if digest_of_manifest(manifest) != kept.name:
        raise UserError(f"{address} does not hold the {kind} that its address names: its manifest was changed")
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    try:
        get_bundle(store, address, partial / "files")
        (partial / "manifest.json").write_text(manifest.text())
        try:
            partial.rename(kept)
        except OSError:
            if not kept.exists():  # Another run may have fetched it meanwhile: then its copy stays.
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
