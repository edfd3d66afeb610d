"""The files of a folder and what identifies them: the one walk that running, storing, hashing and resuming share.

Links are followed, wherever they lead. Names that begin with a dot are left out: file managers, version control and
downloads leave such files. What cannot be followed or written down is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from untrigger.errors import UserError
from untrigger.settings.base import is_utf8

FOLDERS = {
    "dataset": "datasets",
    "model": "models",
    "references": "references",
    "trigger": "triggers",
    "run": "runs",
}
"""Where each kind lies, in a store and among the copies."""


def entries(folder: Path) -> list[Path]:
    """What lies in `folder`, by name.

    Raises UserError when there is no such folder, when a name is not UTF-8, or when a link leads nowhere.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        astray = [path for path in found if not path.exists()]
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    for path in found:
        if not is_utf8(path.name):
            shown = os.fsencode(path.name).decode(errors="backslashreplace")
            raise UserError(f"the name {shown} in {folder} is not UTF-8: rename it")
    if astray:
        raise UserError(f"{astray[0]} is a link that leads nowhere: mend it or delete it")
    return found


def files_below(path: Path) -> list[Path]:
    """All files below `path`, or `path` itself where it is a file.

    Raises UserError as `entries` does, or when a link leads back to a folder that it lies in.
    """
    if path.is_file():
        return [path]
    inside = entries(path)
    for entry in inside:
        if entry.is_symlink() and path.resolve().is_relative_to(entry.resolve()):
            raise UserError(f"{entry} is a link to a folder that it lies in: delete it")
    return [file for entry in inside for file in files_below(entry)]


def content_digest(sums: Mapping[str, str]) -> str:
    """What names and SHA-256 sums of files make: the same files, the same digest."""
    lines = sorted(f"{name}\0{sha256}\n" for name, sha256 in sums.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def digest_of(root: Path, files: Iterable[Path]) -> str:
    """The digest of `files` by their places below `root`; a single file that is the root goes by its suffix."""
    return content_digest(
        {path.relative_to(root).as_posix() if path != root else path.suffix.lower(): sha256(path) for path in files}
    )


def sha256(path: Path) -> str:
    """The sum of a file's content; UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def take_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False where another process holds it.

    Raises UserError where its file system gives no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"the file system gives no lock on {file.name} ({error.strerror}): choose a folder on another one, such as "
            "a disk of this machine, or have this one mounted with locks"
        ) from error
    return True
