"""The datasets that are known by name: those of untrigger and those that others register."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from untrigger.datasets.decoding import OnProgress
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings
from untrigger.storage.files import files_below

Read = Callable[[Path, DataSettings, OnProgress | None], tuple[ImageData, ImageData | None]]
"""Reads the images at a path (meaningless for a dataset without one): training and held-out part, or all and None.

It is told the settings, and may tell how many images of how many are read. Raises UserError.
"""

Check = Callable[[Path, DataSettings], None]
"""Raises UserError when the dataset at a path is plainly not to be had; reads no images."""


@dataclass(frozen=True)
class DatasetReader:
    """What `register_dataset` was told."""

    name: str
    read: Read
    description: str
    takes_path: bool
    default_path: str | None
    files: Callable[[Path], list[Path]]
    check: Check
    verified: bool

    @property
    def usage(self) -> str:
        """How the dataset is named."""
        if not self.takes_path:
            return self.name
        return f"{self.name}:PATH" if self.default_path is None else f"{self.name}[:PATH]"


READERS: dict[str, DatasetReader] = {}


def register_dataset(
    name: str,
    read: Read,
    *,
    description: str,
    takes_path: bool = True,
    default_path: str | None = None,
    files: Callable[[Path], list[Path]] = files_below,
    check: Check = lambda path, settings: None,
    verified: bool = False,
) -> None:
    """Make `name`, or `name:PATH`, a dataset that every command and stage can read.

    A stage is a process of its own: put the call into a module that UNTRIGGER_PLUGINS names. takes_path: whether a path
    is given behind the name; default_path stands in for it. files: those below the path that belong to the dataset,
    which is what is stored, and what a resumed run must find unchanged. verified: `read` makes sure that the content is
    the published one, so that the name says it all. Raises UserError when the name is taken or is none.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name) or name == "s3" or name in READERS:
        raise UserError(f"{name!r} is taken, or no name of letters, digits, _ and -: call the dataset otherwise")
    READERS[name] = DatasetReader(name, read, description, takes_path, default_path, files, check, verified)
