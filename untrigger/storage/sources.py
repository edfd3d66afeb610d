"""What is given by name: a dataset, a classifier, references or a trigger, on this machine, in a store or built in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from untrigger.artifacts import read_json
from untrigger.errors import UserError
from untrigger.settings.base import Kind, home_expanded
from untrigger.storage.downloads import fetched, kept_copy
from untrigger.storage.files import digest_of, files_below, sha256
from untrigger.storage.tracked_models import fetched_from_mlflow, is_tracked

TRIGGER_SUFFIXES = (".png", ".safetensors")
CLASSIFIER_FILES = ("classifier.json", "classifier.safetensors")
MODEL_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pt2", ".onnx")
"""How model files made elsewhere end."""


def is_address(name: str) -> bool:
    """Whether `name` is meant as an address in an object store."""
    return name.startswith("s3://")


@dataclass(frozen=True)
class Source:
    """Something given by name: on this machine (`path`), in a store (`stored`, the name is its address), or built in.

    walk: says which files of a path belong to it; UserError when they are not to be had. content: what stands for its
    content where that needs no look at the files.
    """

    kind: Kind
    name: str
    path: Path | None = None
    walk: Callable[[Path], list[Path]] = files_below
    content: str = ""

    @classmethod
    def of(cls, kind: Kind, name: str) -> Source:
        """The source called `name`; UserError when it begins like an address and is none."""
        walk = _model_files if kind == "model" else files_below
        if kind == "model" and is_tracked(name):
            return cls(kind, name, fetched_from_mlflow(name, MODEL_SUFFIXES), walk=walk)
        if is_address(name):
            if not re.fullmatch(r"[0-9a-f]{32}", kept_copy(kind, name).name):
                raise UserError(f"{name!r} is no {kind} in a store: give an address as `untrigger store put` prints it")
            return cls(kind, name, walk=walk)
        place = name.partition(":")[2] if kind == "dataset" else name
        on_file = bool(place) and (kind != "trigger" or place.lower().endswith(TRIGGER_SUFFIXES))
        return cls(kind, name, Path(home_expanded(place)) if on_file else None, walk=walk)

    @property
    def stored(self) -> bool:
        """Whether it is in an object store."""
        return is_address(self.name)

    @property
    def reader(self) -> str:
        """What reads the dataset: the word before the colon of its name, or what was noted as it was stored."""
        if not self.stored:
            return self.name.partition(":")[0]
        return str(read_json(fetched(self.kind, self.name) / "manifest.json").get("dataset"))

    def local(self) -> Path | None:
        """The file or folder that it is read from, fetched unless it is there; None for what is built in.

        Raises UserError when the store holds no such thing or cannot be reached.
        """
        if not self.stored:
            return self.path
        folder = fetched(self.kind, self.name) / "files"
        if self.kind in ("dataset", "references") or (folder / CLASSIFIER_FILES[0]).exists():
            return folder
        files = files_below(folder)
        if self.kind == "model" and len(files) == 1:
            return files[0]
        if len(files) != 1 or files[0].suffix.lower() not in TRIGGER_SUFFIXES:
            raise UserError(f"{self.name} holds no trigger: it must be one .png or .safetensors file")
        return files[0]

    def files(self) -> list[Path]:
        """The files that it is read from, on this machine."""
        path = self.local()
        return [] if path is None else self.walk(path)

    def root(self) -> Path | None:
        """The folder below which its files have their names."""
        path = self.local()
        return path.parent if path is not None and path.is_file() else path

    def identity(self) -> str:
        """What stands for its content: the same for the same files, whatever the path or address that names them."""
        root = self.root()
        if root is None or self.content:
            return self.content or self.name
        if self.kind != "dataset" and len(self.files()) == 1:
            return sha256(self.files()[0])
        return f"{self.reader if self.kind == 'dataset' else self.kind}:{digest_of(root, self.files())}"

    def places(self) -> list[Path]:
        """The files and folders that must be seen where it is read, those that its links lead to among them."""
        if self.stored:
            return [kept_copy(self.kind, self.name)]
        files = self.files()
        steps = {step for file in files for step in (file, *file.parents) if step.is_relative_to(self.path or file)}
        links = sorted({step.resolve() for step in steps if step.is_symlink()})
        return [Path(os.path.commonpath(files)), *links] if files else []


def has_model_name(path: Path) -> bool:
    """Whether a file is a model by its name; that it lies in no tar, `.tar` behind such a name says by custom."""
    return Path(path.name.lower().removesuffix(".tar")).suffix in MODEL_SUFFIXES


def model_place(name: str) -> Path:
    """The folder with the classifier `name`, or the model file; UserError when there is none, or no store to reach."""
    files = Source.of("model", name).files()
    return files[0].parent if len(files) > 1 else files[0]


def _model_files(path: Path) -> list[Path]:
    if path.name == CLASSIFIER_FILES[1] and (path.parent / CLASSIFIER_FILES[0]).is_file():
        path = path.parent
    named = has_model_name(path)
    if path.is_file() and named:
        return [path]
    if path.is_file() or (named and not path.exists()):
        why = "there is no such file" if named else f"its name must end in {', '.join(MODEL_SUFFIXES)}"
        raise UserError(f"{path} is no model file: {why}")
    files = [path / name for name in CLASSIFIER_FILES]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"{path} holds no classifier, {file.name} is missing: give the folder `classifier` of a run, a model "
                "file, or an address as `untrigger store put` prints it"
            )
    return files
