"""The outputs of finished stages, kept to be reused by a later attempt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from untrigger import __version__
from untrigger.artifacts import write_json

STORE = "UNTRIGGER_STAGES"
"""Environment variable: the folder that keeps the outputs of finished stages, to be reused by a later attempt."""


def kept_outputs(store: Path, name: str) -> Path | None:
    """The folder that keeps the outputs of the stage called `name`, the last used if there are several."""
    marks = sorted(store.glob(f"{name}-*/stage.json"), key=lambda mark: mark.stat().st_mtime)
    return marks[-1].parent if marks else None


def kept_folder(name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Path | None:
    """Where the outputs of this very call are kept: named by version, inputs and parameters.

    Files that a parameter names by path are not looked into: a resumed run checks that they are the same.
    """
    store = os.environ.get(STORE)
    if not store:
        return None
    described = {
        "version": __version__,
        "inputs": {
            key: [_digest(path) for path in (value if isinstance(value, tuple) else (value,))]
            for key, value in inputs.items()
        },
        "parameters": parameters,
    }
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return Path(store) / f"{name}-{fingerprint[:16]}"


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return total.hexdigest()


def keep_outputs(outputs: Mapping[str, Path], kept: Path, name: str) -> None:
    """Keep the outputs under `kept`, which appears whole or not at all."""
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    link_outputs(outputs, {output: partial / output for output in outputs})
    write_json(partial / "stage.json", {"stage": name, "outputs": sorted(outputs)})
    partial.rename(kept)


def link_outputs(sources: Mapping[str, Path], targets: Mapping[str, Path]) -> None:
    for name, source in sources.items():
        targets[name].mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, targets[name], copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    """Link, since outputs are never changed in place; copy where the file system cannot."""
    try:
        os.link(source, target)
    except FileExistsError:
        Path(target).unlink()
        _link(source, target)
    except OSError:
        shutil.copy2(source, target)
