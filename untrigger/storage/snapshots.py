"""Snapshots of trainings in an object store."""

from __future__ import annotations

from untrigger.storage.objects import Address, ObjectStore


class StoredFolders:
    """Folders of snapshots below an address; every method raises UserError as ObjectStore does."""

    def __init__(self, address: str) -> None:
        self._root = Address.parse(address)
        self._store = ObjectStore()

    def read(self, call: str, name: str) -> bytes | None:
        """The snapshot called `name` of a call; None when there is none."""
        return self._store.read(self._root / call / name)

    def write(self, call: str, name: str, content: bytes) -> None:
        """Keep a snapshot, in place of an earlier one."""
        self._store.put_bytes(content, self._root / call / name)

    def delete(self, call: str) -> None:
        """Delete those of a call."""
        for name in self._store.names(self._root / call, recursive=True):
            self._store.delete(self._root / call / name)

    def leftovers(self, before: float) -> list[str]:
        """The calls whose latest snapshot is from before that time, in seconds since 1970."""
        latest: dict[str, float] = {}
        for name, changed in self._store.changes(self._root).items():
            call = name.partition("/")[0]
            latest[call] = max(changed, latest.get(call, 0.0))
        return [call for call, changed in latest.items() if changed < before]
