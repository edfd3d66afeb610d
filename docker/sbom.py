"""A bill of materials of each image, and whether all licences in it are allowed: python docker/sbom.py FOLDER

FOLDER/IMAGE.cdx.json is CycloneDX: the Python packages that docker/Dockerfile installs into the image, in the versions
of this environment, which constraints.txt pins for both. FOLDER/licences.txt lists the licence of each. The base image
is named as a component; what is in it, its publisher tells. A licence that is not in `ALLOWED` fails, with its name.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from untrigger import __version__

DOCKERFILE = Path(__file__).with_name("Dockerfile")

Bom = dict[str, Any]

ALLOWED = frozenset(
    (
        *("MIT", "MIT-0", "MIT-CMU", "ISC", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "Zlib", "Unlicense"),
        *("Apache-2.0", "Apache-2.0 WITH LLVM-exception", "CC0-1.0", "PSF-2.0", "Python-2.0", "CNRI-Python"),
        *("MPL-2.0", "LGPL-3.0-or-later"),  # of files, or of a library that is used as it is
    )
)
"""Licences by which the images may be handed on under ours."""

NAMED = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What the classifiers of packages call these licences."""

STATED = {
    "huey": "MIT",
    "kfp-kubernetes": "Apache-2.0",
    "kfp-pipeline-spec": "Apache-2.0",
    "kfp-server-api": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "skops": "MIT",
    "torchvision": "BSD-3-Clause",
}
"""Of packages that say so in a text alone."""


def images(dockerfile: str) -> dict[str, list[str]]:
    """What pip is asked for in each stage of a Dockerfile and in those below it, in its own words."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"^(?=FROM )", dockerfile.replace("\\\n", " "), flags=re.MULTILINE):
        if stage := re.match(r"FROM (\S+) AS (\S+)", block):
            asked = re.sub(r'"\$\([^)]*requirement[^)]*\)"', "torch", block)
            calls = [shlex.split(call) for call in re.findall(r"/opt/tools/install ([^&\n]*)", asked)]
            found[stage[2]] = [*found.get(stage[1], []), *(word for call in calls for word in call)]
    return found


def packages(asked: Iterable[str]) -> set[str]:
    """The canonical names of what an image has when pip is asked so, as far as it is installed here."""
    names: set[str] = set()
    alone = False
    for word in asked:
        if word != "--no-deps":
            names |= {canonicalize_name(word)} if alone else _with_dependencies(Requirement(word))
        alone = word == "--no-deps"
    return names - {"setuptools"}  # docker/install takes it out again


def _with_dependencies(wanted: Requirement) -> set[str]:
    waiting, seen = [wanted], set[tuple[str, frozenset[str]]]()
    while waiting:
        each = waiting.pop()
        key = canonicalize_name(each.name), frozenset(each.extras)
        if key not in seen:
            seen.add(key)
            needed = map(Requirement, distribution(each.name).requires or ())
            waiting += [other for other in needed if _applies(other, each.extras)]
    return {name for name, _ in seen}


def _applies(needed: Requirement, extras: Iterable[str]) -> bool:
    return needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def bill(environment: Bom, image: str, names: set[str]) -> Bom:
    """The part of an environment's bill that an image holds."""
    components = [each for each in environment["components"] if canonicalize_name(each["name"]) in names]
    base = {"type": "container", "name": "python", "version": "3.11-slim", "bom-ref": "base"}
    held = {each["bom-ref"] for each in components}
    dependencies = [
        {**each, "dependsOn": [other for other in each.get("dependsOn", ()) if other in held]}
        for each in environment["dependencies"]
        if each["ref"] in held
    ]
    itself = {"type": "container", "name": f"untrigger/{image}", "version": __version__, "bom-ref": "image"}
    metadata = {**environment.get("metadata", {}), "component": itself}
    return {**environment, "metadata": metadata, "components": [base, *components], "dependencies": dependencies}


def licence(component: Mapping[str, Any]) -> str:
    """The licence of a component as an SPDX expression; as it is called, where it is called otherwise."""
    stated = STATED.get(canonicalize_name(component["name"]))
    found = [each.get("expression") or _called(each["license"]) for each in component.get("licenses", ())]
    # Where a package tells it twice, the one that SPDX knows.
    return stated or next((name for name in found if name in ALLOWED), " AND ".join(found) or "none stated")


def _called(given: Mapping[str, str]) -> str:
    name = given.get("id") or given.get("name", "none stated")
    return NAMED.get(name.rpartition(" :: ")[2], name)


@cache
def is_allowed(expression: str) -> bool:
    """Whether one can keep to an SPDX expression with the licences of `ALLOWED` alone."""
    licensing = get_spdx_licensing()

    def holds(part: Any) -> bool:
        if isinstance(part, licensing.OR):
            return any(map(holds, part.args))
        return all(map(holds, part.args)) if isinstance(part, licensing.AND) else str(part) in ALLOWED

    try:
        return holds(licensing.parse(expression))
    except ExpressionError:
        return False


def refused(components: Iterable[Mapping[str, Any]]) -> list[str]:
    """The components whose licence is not allowed, with it."""
    told = ((f"{each['name']} {each['version']}", licence(each)) for each in components if each["type"] == "library")
    return [f"{name}: {found}" for name, found in told if not is_allowed(found)]


def environment_bill() -> Bom:
    """The bill of all packages that are installed here."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--no-validate",
        sys.executable,
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(folder: Path) -> None:
    """Write everything, then end with what is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    environment, licences, complaints = environment_bill(), set(), []
    stages = images(DOCKERFILE.read_text())
    for image in shipped():
        found = bill(environment, image, packages(stages[image]))
        (folder / f"{image}.cdx.json").write_text(json.dumps(found, indent=1) + "\n")
        libraries = [each for each in found["components"] if each["type"] == "library"]
        licences |= {f"{each['name']} {each['version']}: {licence(each)}\n" for each in libraries}
        complaints += [f"untrigger/{image}: {each}" for each in refused(libraries)]
    (folder / "licences.txt").write_text("".join(sorted(licences, key=str.lower)))
    if complaints:
        sys.exit("error: licences that are not allowed: " + "; ".join(complaints))


def shipped() -> list[str]:
    """The images that docker/build.sh builds."""
    found = re.search(r'targets="([^"]*)"', DOCKERFILE.with_name("build.sh").read_text())
    assert found is not None
    return found[1].split()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
