"""Model files that MLflow keeps, and the copies that they are read from; MLflow's own loaders run what they load."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from untrigger.errors import UserError, without_credentials
from untrigger.storage.downloads import cache_folder

SERVER = "MLFLOW_TRACKING_URI"

TRACKED = re.compile(r"(models:/[^/@]+/\d+|runs:/[0-9a-zA-Z]+)/?(.*)")
"""What does not move: a version of a registered model, or a run; and what lies below it."""


def is_tracked(name: str) -> bool:
    """Whether `name` is meant as an address in MLflow."""
    return name.startswith(("models:", "runs:"))


def fetched_from_mlflow(name: str, suffixes: tuple[str, ...]) -> Path:
    """The copy of the one model file at an address in MLflow, fetched unless it is there.

    Only that file is fetched: of a folder the one whose name ends in one of `suffixes`. Where no server is named, as in
    containers, the copy is taken. Raises UserError when there is no such file, or not one, or the server does not
    answer.
    """
    found = TRACKED.fullmatch(name)
    if not found:
        raise UserError(
            f"{name!r} names no model that stays what it is: give models:/NAME/VERSION or runs:/RUN-ID/PATH"
        )
    kept = cache_folder() / "models" / hashlib.sha256(name.encode()).hexdigest()[:32]
    server = os.environ.get(SERVER)
    note = kept / "server.txt"
    if server and not (note.is_file() and note.read_text() == without_credentials(server)):
        _fetch(_Place(*found.groups()), suffixes, kept, without_credentials(server))
    files = [path for path in kept.glob("files/**/*") if path.is_file()]
    if not files:
        raise UserError(f"{name} lies in MLflow: set {SERVER} to its server, http://HOST:PORT or sqlite:///FILE")
    return files[0]


@dataclass(frozen=True)
class _Place:
    """A run or a version of a model, and a place below it."""

    root: str
    below: str

    def __str__(self) -> str:
        return f"{self.root}/{self.below}".rstrip("/")

    def at(self, path: str) -> _Place:
        return replace(self, below=path)

    def files(self) -> Iterator[str]:
        """The paths of all files below, as from the root."""
        from mlflow.artifacts import list_artifacts

        for each in list_artifacts(artifact_uri=str(self)):
            if each.is_dir:
                yield from self.at(each.path).files()
            else:
                yield each.path

    def one_file(self, suffixes: tuple[str, ...]) -> _Place:
        """The only model file below; UserError when there is none, or more than one."""
        if self.below.lower().endswith(suffixes):
            return self
        found = [path for path in self.files() if path.lower().endswith(suffixes)]
        if len(found) != 1:
            which = ", ".join(found) or "none"
            raise UserError(f"{self} must hold one model file ({', '.join(suffixes)}), and holds {which}: name it")
        return self.at(found[0])


def _fetch(place: _Place, suffixes: tuple[str, ...], kept: Path, server: str) -> None:
    """The copy appears under `kept` whole or not at all."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        from mlflow.artifacts import download_artifacts
    except ModuleNotFoundError as error:
        raise UserError(f"{place} needs the package mlflow to be fetched: pip install 'untrigger[tracking]'") from error
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    try:
        file = place.one_file(suffixes)
        (partial / "files").mkdir(parents=True)
        download_artifacts(artifact_uri=str(file), dst_path=str(partial / "files"))
        (partial / "server.txt").write_text(server)
        shutil.rmtree(kept, ignore_errors=True)
        partial.rename(kept)
    except UserError:
        raise
    except Exception as error:  # its client raises errors of many kinds, those of each store among them
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot fetch {place} from MLflow at {server}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
