"""Parts of long work that are kept in its folder, so that the same command goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from untrigger import __version__
from untrigger.artifacts import read_json, write_json
from untrigger.plugins import load_plugins
from untrigger.storage.files import sha256

MADE = "made.json"
"""Written last: a part without it is made anew."""


def kept_part(folder: Path, told: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` unless it was made from the same before; what else lay there is deleted.

    told: all that the part depends on, as JSON has it; beside it count the version, and the user's own modules.
    """
    plugins = [sha256(path) for path in load_plugins()]
    text = json.dumps({**told, "version": __version__, "plugins": plugins}, sort_keys=True)
    call = hashlib.sha256(text.encode()).hexdigest()
    if (folder / MADE).exists() and read_json(folder / MADE).get("call") == call:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    write_json(folder / MADE, {"call": call})
    return folder
