"""Images by digest: a file of pins says what each image name of this repository was resolved to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from untrigger.errors import UserError
from untrigger.pipelines.arguments import COMPILED
from untrigger.settings.base import Frozen
from untrigger.stages.identities import OWN_IMAGES

PINS = Path("k8s/images.json")
"""Where `make pin-images` writes, seen from a checkout."""

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def named_images(manifests: Iterable[Path]) -> list[str]:
    """The images that the compiled DAGs and the manifests name and that have no digest yet."""
    paths = [*COMPILED.values(), *(path for folder in manifests for path in sorted(folder.rglob("*.yaml")))]
    found = {image for path in paths for image in images_in(list(yaml.safe_load_all(path.read_text())))}
    return sorted(image for image in found if not is_pinned(image))


def resolved(image: str, registry: str, *, plain_http: bool = False) -> str:
    """The reference with the digest that a registry has for `image`: `registry` for our own, its own for others.

    skopeo asks the registry, with TLS unless it is `registry` and `plain_http`. UserError when skopeo is not installed,
    or when the registry does not have the image.
    """
    own = image.startswith(OWN_IMAGES)
    if ":" not in image.rpartition("/")[2]:
        raise UserError(f"the image {image} has no version that could be resolved")
    name = f"{registry.rstrip('/')}/{image}" if own else image if "/" in image else f"docker.io/library/{image}"
    verify = str(not (own and plain_http)).lower()
    command = [
        "skopeo",
        "inspect",
        "--no-tags",
        "--format",
        "{{.Digest}}",
        f"--tls-verify={verify}",
        f"docker://{name}",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise UserError("skopeo is needed to resolve digests, and is not installed here") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"cannot resolve {name}: its registry did not answer within two minutes") from error
    reference = f"{name.rpartition(':')[0]}@{answer.stdout.strip()}"
    if answer.returncode or not is_pinned(reference):
        told = answer.stderr.strip().splitlines() or ["no digest came back"]
        raise UserError(f"cannot resolve {name}: {told[-1]}")
    return reference


class _Pins(Frozen):
    """A file that `make pin-images` wrote."""

    images: dict[str, str]


def read_pins(path: Path) -> dict[str, str]:
    """From image names with their tags to references with digests; UserError when one of them has no digest."""
    pins = _Pins.read(path).images
    for name, reference in pins.items():
        if not is_pinned(reference):
            raise UserError(f"{path} pins {name} to {reference!r}, which has no digest: run `make pin-images` again")
    return pins


def read_pins_if_any(path: Path | None) -> dict[str, str]:
    """The pins in `path`, or in the usual file if there is one."""
    if path is None and not PINS.exists():
        return {}
    return read_pins(path or PINS)


def is_pinned(reference: str) -> bool:
    """Whether the reference ends in a digest."""
    return _DIGEST.search(reference) is not None


def images_in(document: Any) -> set[str]:
    """The values of all `image` fields in a manifest or a compiled pipeline."""
    if isinstance(document, list):
        return set().union(*map(images_in, document))
    if not isinstance(document, dict):
        return set()
    own = {value for name, value in document.items() if name == "image" and isinstance(value, str)}
    return own.union(*map(images_in, document.values()))


def with_pins(document: Any, pins: Mapping[str, str]) -> Any:
    """The same document with every image that has a pin replaced by it."""
    if isinstance(document, dict):
        return {
            name: pins.get(value, value) if name == "image" and isinstance(value, str) else with_pins(value, pins)
            for name, value in document.items()
        }
    return [with_pins(item, pins) for item in document] if isinstance(document, list) else document
