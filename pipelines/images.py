"""Images by digest: a file of pins says what each image name of this repository was resolved to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from untrigger.artifacts import read_json
from untrigger.errors import UserError

PINS = Path("k8s/images.json")
"""Where `make pin-images` writes, seen from a checkout."""

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def read_pins(path: Path) -> dict[str, str]:
    """From image names with their tags to references with digests; UserError when one of them has no digest."""
    pins = read_json(path).get("images")
    if not isinstance(pins, dict):
        raise UserError(f"{path} has no `images`: `make pin-images` writes it")
    for name, reference in pins.items():
        if not isinstance(reference, str) or not is_pinned(reference):
            raise UserError(f"{path} pins {name} to {reference!r}, which has no digest: run `make pin-images` again")
    return pins


def is_pinned(reference: str) -> bool:
    """Whether the reference ends in a digest."""
    return _DIGEST.search(reference) is not None


def images_in(document: Any) -> set[str]:
    """The values of all `image` fields in a manifest or a compiled pipeline."""
    return set(_images(document))


def with_pins(document: Any, pins: Mapping[str, str]) -> Any:
    """The same document with every image that has a pin replaced by it."""
    if isinstance(document, dict):
        return {
            name: pins.get(value, value) if name == "image" and isinstance(value, str) else with_pins(value, pins)
            for name, value in document.items()
        }
    return [with_pins(item, pins) for item in document] if isinstance(document, list) else document


def _images(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "image" and isinstance(value, str):
                yield value
            else:
                yield from _images(value)
    elif isinstance(document, list):
        for item in document:
            yield from _images(item)
