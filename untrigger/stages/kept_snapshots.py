"""Where a stage keeps the snapshots of its trainings: in the store of a cluster, or in the run's folder.

They are found again by whoever makes the very same call: the same stage, parameters, contents of inputs, version and
image. None of that is a parameter of the stage, which a cluster's cache would take for another call.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from untrigger.errors import UserError
from untrigger.settings.base import seconds_from
from untrigger.snapshots import Clock, Place, Snapshot, is_whole
from untrigger.tracking.progress import Reporter

PLACE = "UNTRIGGER_SNAPSHOTS"
"""Environment variable: the folder, or the address in a store, below which snapshots are kept; without it none are."""

BUCKET, PREFIX = "UNTRIGGER_STORE_BUCKET", "UNTRIGGER_STORE_PREFIX"
"""Environment variables: where a cluster's store is ours, which is where they go unless `PLACE` says otherwise."""

SECONDS = "UNTRIGGER_SNAPSHOT_SECONDS"
"""Environment variable: how often a training is kept; every 180 seconds unless given."""

LEFTOVER_SECONDS = 7 * 86400.0
"""After so long the snapshots of a stage that never ended are deleted, by the next stage that keeps some."""


T = TypeVar("T")


class _Folders(Protocol):
    """Folders of snapshots, one for each call of a stage."""

    def read(self, call: str, name: str) -> bytes | None: ...
    def write(self, call: str, name: str, content: bytes) -> None: ...
    def delete(self, call: str) -> None: ...
    def leftovers(self, before: float) -> list[str]: ...


class Snapshots:
    """The snapshots of one call, by the names of its trainings; `warn` gets what a person is to know of them."""

    def __init__(self, folders: _Folders | None, call: str, warn: Callable[[str], None]) -> None:
        self._folders, self._call, self._warn = folders, call, warn
        self._clock = Clock(seconds_from(SECONDS, 180))

    def of(
        self, name: str, notes: Callable[[], Any] = lambda: None, recall: Callable[[Any], None] = lambda _: None
    ) -> Snapshot:
        """The snapshot of the training called `name`; see Snapshot."""
        place: Place | None = self if self._folders else None
        return Snapshot(place, name, self._clock, notes, recall)

    def of_curve(
        self, name: str, curve: list[dict[str, float]], on_epoch: Callable[..., None], *, before: int = 0
    ) -> Snapshot:
        """The snapshot of a training of which `on_epoch` reports each epoch, and adds it to `curve`.

        `before` of the epochs there are those of an earlier training.
        """

        def recall(kept: list[dict[str, float]]) -> None:
            for epoch, metrics in enumerate(kept, start=before + 1):
                on_epoch(epoch, metrics)

        return self.of(name, lambda: curve[before:], recall)

    def read(self, name: str) -> bytes | None:
        """See Place."""
        content = self._tried(lambda folders: folders.read(self._call, name))
        if content is None:
            return None
        if not is_whole(content):
            self._warn(f"begins {name} anew, since its snapshot is damaged")
            return None
        self._warn(f"goes on with {name} from where it was interrupted")
        return content

    def write(self, name: str, content: bytes) -> None:
        """See Place."""
        self._tried(lambda folders: folders.write(self._call, name, content))

    def clear(self) -> None:
        """Delete them, since the stage has ended, and what others left long ago."""

        def delete(folders: _Folders) -> None:
            for call in (self._call, *folders.leftovers(time.time() - LEFTOVER_SECONDS)):
                folders.delete(call)

        self._tried(delete)

    def _tried(self, call: Callable[[_Folders], T]) -> T | None:
        """A stage goes on without snapshots where their place does not take or give them."""
        if self._folders is None:
            return None
        try:
            return call(self._folders)
        except (UserError, OSError) as error:
            self._folders = None
            self._warn(f"keeps no snapshots any more: {error}")
            return None


def own_store() -> str:
    """The address below which a cluster's store is ours; "" where there is none."""
    bucket = os.environ.get(BUCKET)
    return f"s3://{bucket}/{os.environ.get(PREFIX, '').strip('/')}".rstrip("/") if bucket else ""


def snapshots_of(call: Callable[[], str], reporter: Reporter) -> Snapshots:
    """The snapshots of a call of a stage, by its name, where the environment says that they are kept."""
    warn = partial(reporter.say, "warning")
    place = os.environ.get(PLACE, "")
    if not place and (store := own_store()):
        place = f"{store}/snapshots"
    if place.startswith("s3://"):
        from untrigger.storage.snapshots import StoredFolders

        try:
            return Snapshots(StoredFolders(place), call(), warn)
        except UserError as error:
            warn(f"keeps no snapshots: {error}")
    elif place:
        return Snapshots(LocalFolders(Path(place)), call(), warn)
    return Snapshots(None, "", warn)


class LocalFolders:
    """Folders of snapshots below a folder; as `storage.snapshots.StoredFolders`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, call: str, name: str) -> bytes | None:
        path = self._root / call / name
        return path.read_bytes() if path.exists() else None

    def write(self, call: str, name: str, content: bytes) -> None:
        path = self._root / call / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_bytes(content)
        partial.replace(path)

    def delete(self, call: str) -> None:
        shutil.rmtree(self._root / call, ignore_errors=True)

    def leftovers(self, before: float) -> list[str]:
        return [folder.name for folder in self._root.glob("*/") if folder.stat().st_mtime < before]
