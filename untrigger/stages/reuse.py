"""The outputs of finished stages, kept to be reused by a later attempt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NewType

from pydantic import BeforeValidator, PlainSerializer

from untrigger import __version__
from untrigger.artifacts import write_json
from untrigger.plugins import load_plugins
from untrigger.settings.base import Kind
from untrigger.settings.plans import lines, of_lines
from untrigger.storage.files import digest_of, files_below, sha256

DatasetName = NewType("DatasetName", str)

ModelName = NewType("ModelName", str)

ModelNames = Annotated[tuple[ModelName, ...], BeforeValidator(of_lines), PlainSerializer(lines)]

ReferencesName = NewType("ReferencesName", str)

TriggerName = NewType("TriggerName", str)
"""Parameters of a stage that name what it reads from outside: their content counts, not their spelling."""

STORE = "UNTRIGGER_STAGES"
"""Environment variable: the folder that keeps the outputs of finished stages, to be reused by a later attempt."""

IMAGE = "UNTRIGGER_IMAGE"
"""Environment variable: the image that the stage runs in, by its digest where it has one."""

_KINDS: dict[Any, Kind] = {
    DatasetName: "dataset",
    ModelName: "model",
    ModelNames: "model",
    ReferencesName: "references",
    TriggerName: "trigger",
}


def kept_outputs(store: Path, name: str) -> Path | None:
    """The folder that keeps the outputs of the stage called `name`, the last used if there are several."""
    mark = store / f".last-{name}"
    return store / mark.read_text() if mark.exists() else None


def mark_last(kept: Path, name: str) -> None:
    """Note that `kept` is the last used of the stage called `name`: clocks jump, so that no file's time tells."""
    partial = kept.with_name(f".{uuid.uuid4().hex}")
    partial.write_text(kept.name)
    partial.replace(kept.with_name(f".last-{name}"))


@dataclass(frozen=True)
class Call:
    """A call of the stage called `name`. `kinds` says of each parameter whether it names a source."""

    name: str
    inputs: Mapping[str, Any]
    parameters: Mapping[str, Any]
    kinds: Mapping[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """The same for the very same call: stage, version, plug-ins, contents of the inputs, parameters."""
        return _fingerprint(self.inputs, self.parameters, self.kinds)

    def kept_folder(self) -> Path | None:
        """Where its outputs are kept, if any are."""
        store = os.environ.get(STORE)
        return Path(store) / f"{self.name}-{self.fingerprint[:16]}" if store else None

    def snapshots(self) -> str:
        """What the snapshots of its trainings are kept under, which another image might not go on with."""
        image = os.environ.get(IMAGE, "")
        return f"{self.name}-{hashlib.sha256(f'{self.fingerprint} {image}'.encode()).hexdigest()[:16]}"


def _fingerprint(inputs: Mapping[str, Any], parameters: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    described = {
        "version": __version__,
        "plugins": [sha256(path) for path in load_plugins()],
        "inputs": {
            key: [
                digest_of(folder, files_below(folder)) for folder in (value if isinstance(value, tuple) else (value,))
            ]
            for key, value in inputs.items()
        },
        "parameters": {key: _content(kinds[key], value) for key, value in parameters.items()},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _content(kind: Any, value: Any) -> Any:
    if kind not in _KINDS or not value:
        return value
    from untrigger.datasets.sources import source_of

    if kind is ModelNames:
        return [source_of("model", name).identity() for name in of_lines(value)]
    return source_of(_KINDS[kind], value).identity()


def keep_outputs(outputs: Mapping[str, Path], kept: Path, name: str) -> None:
    """Keep the outputs under `kept`, which appears whole or not at all."""
    partial = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    link_outputs(outputs, {output: partial / output for output in outputs})
    write_json(partial / "stage.json", {"stage": name, "outputs": sorted(outputs)})
    partial.rename(kept)
    mark_last(kept, name)


def link_outputs(sources: Mapping[str, Path], targets: Mapping[str, Path]) -> None:
    for name, source in sources.items():
        targets[name].mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, targets[name], copy_function=_link, dirs_exist_ok=True)


def link_folders(parts: Iterable[Path], target: Path) -> None:
    """Bring the folders that the tasks of a loop left together below `target`, by their names."""
    places = {place.name: place for part in parts for place in sorted(part.iterdir()) if place.is_dir()}
    link_outputs(places, {name: target / name for name in places})


def _link(source: str, target: str) -> None:
    """Link, since outputs are never changed in place; copy where the file system cannot."""
    try:
        os.link(source, target)
    except FileExistsError:
        Path(target).unlink()
        _link(source, target)
    except OSError:
        shutil.copy2(source, target)
