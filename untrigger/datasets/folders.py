"""Folders of class folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from untrigger.datasets.decoding import HELD_OUT, Encoded, OnProgress, decoded_parts
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings
from untrigger.storage.files import entries


def check_folder(path: Path, settings: DataSettings) -> None:
    """UserError when `path` holds no class folders with pictures, or other ones in its test part."""
    _pictures(path)


def folder_files(path: Path) -> list[Path]:
    """The pictures that are read, part by part and class by class."""
    return [file for part in _pictures(path) for files in part.values() for file in files]


def read_folder(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    """The images below `path`, test and validation part apart if there are any."""
    training, *heldout = _pictures(path)
    apart = {name: [file for part in heldout for file in part[name]] for name in training}
    return decoded_parts(_encoded(training), _encoded(apart), tuple(training), settings.image_size, on_progress)


def _pictures(path: Path) -> list[dict[str, list[Path]]]:
    """The pictures of each class in the train folder of `path` and in those held out, or in `path` itself."""
    if not path.is_dir():
        raise UserError(f"the dataset folder {path} does not exist")
    heldout = [path / name for name in HELD_OUT if (path / name).is_dir()]
    parts = [path / "train", *heldout] if heldout and (path / "train").is_dir() else [path]
    found = [{folder.name: _pictures_in(folder) for folder in entries(part) if folder.is_dir()} for part in parts]
    for part, classes in zip(parts, found, strict=True):
        if len(classes) < 2:
            raise UserError(f"{part} needs at least two class folders with images in them, found {len(classes)}")
        if list(classes) != list(found[0]):
            raise UserError(f"the class folders of {part} must be {', '.join(found[0])}, found {', '.join(classes)}")
    return found


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a class folder itself; UserError when there are none."""
    files = [
        file for file in entries(folder) if file.is_file() and file.suffix.lower() in Image.registered_extensions()
    ]
    if not files:
        raise UserError(
            f"the class folder {folder} holds no picture that is read: its pictures must lie in it directly, as PNG, "
            "JPEG or another kind that Pillow knows"
        )
    return files


def _encoded(part: dict[str, list[Path]]) -> Encoded:
    listed = [(file, label) for label, files in enumerate(part.values()) for file in files]
    return Encoded([str(file) for file, _ in listed], [file for file, _ in listed], [label for _, label in listed])
