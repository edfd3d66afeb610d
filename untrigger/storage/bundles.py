"""Datasets, models, triggers and runs in an object store: files below one address, and a manifest that lists them.

The manifest goes up last. A run lies below its id, everything else below an address made of its content, so that the
same one is stored once, whoever stores it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from untrigger.artifacts import FORMAT
from untrigger.errors import UserError
from untrigger.storage.files import FOLDERS, content_digest
from untrigger.storage.objects import Address, Checksums, ObjectStore, checksums

MANIFEST = "manifest.json"

OnFile = Callable[[str, int, int, bool], None]
"""Called after each file: its path in the bundle, how many are done, of how many, and whether it had to be moved."""


def quiet(path: str, done: int, total: int, moved: bool) -> None:
    """An `OnFile` that says nothing."""


@dataclass
class Manifest:
    """What a bundle holds: its kind, what else is known about it, and size and SHA-256 of each file by path."""

    kind: str
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, content: Checksums) -> None:
        self.files[name] = {"bytes": content.size, "sha256": content.sha256}

    def text(self) -> str:
        content = {"format": FORMAT, "kind": self.kind, **self.about, "files": dict(sorted(self.files.items()))}
        return json.dumps(content, indent=2) + "\n"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["bytes"] for entry in self.files.values())


def read_manifest(store: ObjectStore, address: Address) -> Manifest:
    """UserError when there is no bundle at `address`, or when its manifest names a file outside the bundle."""
    raw = store.read(address / MANIFEST)
    if raw is None:
        raise UserError(
            f"there is nothing at {address}: `untrigger store ls s3://{address.bucket}` lists what is there"
        )
    try:
        content = json.loads(raw)
        files, kind = content.pop("files"), content.pop("kind")
        if content.pop("format") != FORMAT or kind not in FOLDERS:
            raise ValueError(f"its format or kind ({kind}) is unknown")
        for name, entry in files.items():
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or not isinstance(entry["sha256"], str):
                raise ValueError(f"it names the file {name!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{address / MANIFEST} is not a manifest that this version reads: {error}") from error
    return Manifest(kind, content, files)


def put_files(
    store: ObjectStore,
    root: Path,
    paths: Iterable[Path],
    address: Address,
    manifest: Manifest,
    *,
    on_file: OnFile = quiet,
    known: Mapping[Path, Checksums] | None = None,
) -> None:
    """Upload `paths`, below `root`, to the same places below `address`, and list them in `manifest`."""
    chosen = sorted(paths)
    for done, path in enumerate(chosen, start=1):
        name, content = path.relative_to(root).as_posix(), (known or {}).get(path) or checksums(path)
        moved = store.put(path, address / name, content)
        manifest.add(name, content)
        on_file(name, done, len(chosen), moved)


def put_manifest(store: ObjectStore, address: Address, manifest: Manifest) -> None:
    """Upload the manifest: now the bundle is there."""
    store.put_bytes(manifest.text().encode(), address / MANIFEST)


def put_content(
    store: ObjectStore,
    root: Path,
    paths: Iterable[Path],
    base: Address,
    manifest: Manifest,
    on_file: OnFile = quiet,
) -> Address:
    """Upload files to an address below `base` that their names and contents make; returns the address."""
    known = {path: checksums(path) for path in paths}
    for path, content in known.items():
        manifest.add(path.relative_to(root).as_posix(), content)
    address = base / FOLDERS[manifest.kind] / digest_of_manifest(manifest)
    put_files(store, root, known, address, manifest, on_file=on_file, known=known)
    put_manifest(store, address, manifest)
    return address


def digest_of_manifest(manifest: Manifest) -> str:
    """What the names and contents of a bundle's files make: the same files, the same digest."""
    return content_digest({name: entry["sha256"] for name, entry in manifest.files.items()})


def get_bundle(
    store: ObjectStore, address: Address, folder: Path, only: Iterable[str] = (), on_file: OnFile = quiet
) -> Manifest:
    """Download a bundle, or those of its files and folders that `only` names, and verify every file.

    Files that are already in `folder` with the right content are left alone.
    """
    manifest, wanted = read_manifest(store, address), tuple(only)
    names = [name for name in manifest.files if not wanted or any(_is_below(name, path) for path in wanted)]
    if not names:
        raise UserError(f"{address} holds none of {', '.join(wanted)}")
    for done, name in enumerate(names, start=1):
        path, sha256 = folder / name, manifest.files[name]["sha256"]
        missing = not path.is_file() or checksums(path).sha256 != sha256
        if missing:
            store.get(address / name, path, sha256)
        on_file(name, done, len(names), missing)
    return manifest


def bundles(store: ObjectStore, base: Address) -> list[tuple[Address, Manifest]]:
    """All bundles below `base`, kind by kind."""
    store.check_bucket(base.bucket)
    found = []
    for folder in FOLDERS.values():
        for name in store.names(base / folder):
            address = base / folder / name.rstrip("/")
            if store.read(address / MANIFEST) is not None:
                found.append((address, read_manifest(store, address)))
    return found


def dated(kind: str, **about: Any) -> Manifest:
    """A manifest that says when it was made."""
    return Manifest(kind, {**about, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(path.rstrip("/") + "/")
