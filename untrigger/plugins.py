"""Modules of the user's own that register datasets, networks and attacks, imported wherever a name is looked up."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path

from untrigger.errors import UserError

PLUGINS = "UNTRIGGER_PLUGINS"
"""Environment variable: names of modules, joined by commas. A stage is a process of its own, so that what the program
registers itself does not reach it; these modules do, from wherever `PYTHONPATH` or an installation puts them."""


def refuse_plugins(remedy: str) -> None:
    """UserError where the environment names modules, for stages that they would not reach; `remedy` is beside unset."""
    if named := os.environ.get(PLUGINS, "").strip(" ,"):
        raise UserError(
            f"{PLUGINS} names {named}, and stages in images know the built-in datasets, networks and attacks alone: "
            f"{remedy}, or unset {PLUGINS}"
        )


def load_plugins() -> tuple[Path, ...]:
    """Import the modules that the environment names, once in a process; the files they come from.

    Raises UserError when one cannot be imported.
    """
    return _loaded(os.environ.get(PLUGINS, ""))


@functools.cache
def _loaded(names: str) -> tuple[Path, ...]:
    return tuple(_imported(name) for name in filter(None, map(str.strip, names.split(","))))


def _imported(name: str) -> Path:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a module of somebody else's may raise anything
        raise UserError(
            f"cannot import {name!r}, which {PLUGINS} names: {type(error).__name__}: {error}; "
            "is its folder on PYTHONPATH?"
        ) from error
    return Path(module.__file__ or name)
