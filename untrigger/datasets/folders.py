"""Folders of class folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from untrigger.datasets.decoding import Encoded, OnProgress, decoded_parts
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings


def folder_parts(path: Path) -> list[Path]:
    """The train and test folders below `path`, or `path` itself when it has no such pair."""
    if not path.is_dir():
        raise UserError(f"the dataset folder {path} does not exist")
    pair = [path / "train", path / "test"]
    return pair if all(part.is_dir() for part in pair) else [path]


def class_folders(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(names) < 2:
        raise UserError(f"{path} needs at least two class folders with images in them, found {len(names)}")
    return names


def read_folder(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    parts = folder_parts(path)
    classes = class_folders(parts[0])
    training = _list_folder(parts[0], classes)
    test = _list_folder(parts[1], classes) if len(parts) == 2 else Encoded([], [], [])
    return decoded_parts(training, test, classes, settings.image_size, on_progress)


def _list_folder(path: Path, classes: tuple[str, ...]) -> Encoded:
    if class_folders(path) != classes:
        raise UserError(
            f"the class folders of {path} must be {', '.join(classes)}, found {', '.join(class_folders(path))}"
        )
    listed = Encoded([], [], [])
    for label, name in enumerate(classes):
        for file in sorted((path / name).iterdir()):
            if file.is_file() and file.suffix.lower() in Image.registered_extensions():
                listed.places.append(str(file))
                listed.contents.append(file)
                listed.labels.append(label)
    if not listed.labels:
        raise UserError(f"the class folders of {path} hold no pictures")
    return listed
