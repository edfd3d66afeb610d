"""The bill of materials of each image, and its licences."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from untrigger.pipelines.images import named_images
from untrigger.stages.identities import OWN_IMAGES

SBOM = Path(__file__).parents[2] / "docker" / "sbom.py"


@pytest.fixture(scope="module")
def sbom() -> dict[str, Any]:
    return runpy.run_path(str(SBOM))


@pytest.mark.slow
def test_every_image_has_a_bill_of_what_is_in_it_and_all_licences_are_allowed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SBOM, tmp_path], check=True)
    bills = {path.name.removesuffix(".cdx.json"): json.loads(path.read_text()) for path in tmp_path.glob("*.cdx.json")}
    assert {bill["bomFormat"] for bill in bills.values()} == {"CycloneDX"}
    named = [image for image in named_images([SBOM.parents[1] / "k8s"]) if image.startswith(OWN_IMAGES)]
    assert len(named) > 10 and {image.removeprefix(OWN_IMAGES).partition(":")[0] for image in named} <= bills.keys()
    held = {name: {each["name"] for each in bill["components"]} for name, bill in bills.items()}
    assert {"python", "kfp", "torch", "minio", "pydantic_core"} <= held["pixel-sgd"]
    assert not {"setuptools", "scikit-learn", "kubernetes", "pytest"} & held["pixel-sgd"]
    assert {"mlflow", "psycopg2-binary"} <= held["mlflow-server"] and "torch" not in held["mlflow-server"]
    assert bills["seaweedfs"]["metadata"]["component"]["name"] == "untrigger/seaweedfs"
    torch = next(each for each in bills["staircase"]["components"] if each["name"] == "torch")
    assert f"torch {torch['version']}: Apache-2.0 AND" in (tmp_path / "licences.txt").read_text()


def test_an_image_holds_what_the_stages_below_it_install(sbom: dict[str, Any]) -> None:
    dockerfile = """
FROM python:3.11-slim AS below
RUN --mount=type=x \\
    /opt/tools/install click && /opt/tools/install --no-deps jinja2
FROM below AS above
RUN /opt/tools/install "$(python /opt/tools/torch_variant.py requirement "$TORCH")" \\
    && rm -r /tmp/x
FROM above AS image
"""
    stages = sbom["images"](dockerfile)
    assert stages["image"] == ["click", "--no-deps", "jinja2", "torch"] and stages["below"] == stages["image"][:3]
    assert sbom["packages"](stages["below"]) == {"click", "jinja2"}, "without MarkupSafe"
    assert {"jinja2", "markupsafe", "sympy", "mpmath"} <= sbom["packages"](["jinja2", "torch"])


def component(package: str, **licence: str) -> dict[str, Any]:
    return {"type": "library", "name": package, "version": "1", "licenses": [{"license": licence}] if licence else []}


def test_a_licence_that_is_not_allowed_is_named(sbom: dict[str, Any]) -> None:
    fine = (
        component("fine", id="MIT"),
        component("Protobuf"),
        component("old", name="License :: OSI Approved :: MIT License"),
    )
    bad = component("bad", id="GPL-2.0-only"), component("silent"), component("odd", name="as is")
    assert sbom["refused"]([*fine, *bad]) == ["bad 1: GPL-2.0-only", "silent 1: none stated", "odd 1: as is"]


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(GPL-3.0-only OR Apache-2.0) AND BSD-3-Clause", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_when_one_can_keep_to_it(sbom: dict[str, Any], expression: str, allowed: bool) -> None:
    assert sbom["is_allowed"](expression) is allowed
