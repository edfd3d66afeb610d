"""What is built from the checkout holds what it must, and the version is everywhere the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import untrigger

ROOT = Path(untrigger.__file__).parents[1]
IN_SOURCES = ("untrigger", "pipelines", "components", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in IN_SOURCES:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source / name)
    target = tmp_path_factory.mktemp("built")
    for what in ("wheel", "sdist"):
        build = f"from setuptools.build_meta import build_{what} as build; build({str(target)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    return target


def modules() -> set[str]:
    """Every module of ours as a path below site-packages, `pipelines` and `components` below `untrigger`."""
    own = [path.relative_to(ROOT) for path in (ROOT / "untrigger").rglob("*.py")]
    linked = [Path("untrigger") / path.relative_to(ROOT) for p in IN_SOURCES[1:3] for path in (ROOT / p).rglob("*.py")]
    return {path.as_posix() for path in (*own, *linked)}


def data_files() -> set[str]:
    templates = (ROOT / "untrigger" / "reports" / "templates").glob("*.j2")
    compiled = (Path("untrigger") / path.relative_to(ROOT) for path in (ROOT / "pipelines").glob("*.yaml"))
    named = [path.relative_to(ROOT).as_posix() for path in templates] + [path.as_posix() for path in compiled]
    return {"untrigger/py.typed", *named}


def test_the_wheel_holds_all_modules_and_data_and_nothing_with_a_generic_name(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert len(data_files()) >= 8
    assert modules() | data_files() <= held
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {"untrigger"}


def test_the_sdist_holds_all_modules_and_data(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert modules() | data_files() <= held


def test_the_library_alone_asks_for_nothing_of_kubeflow_mlflow_or_stores() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    alone = {re.split(r"[<>=\[]", requirement)[0] for requirement in project["dependencies"]}
    assert not alone & {"kfp", "kfp-kubernetes", "kfp-server-api", "mlflow", "minio", "docker", "kubernetes", "boto3"}
    assert {"torch", "torchvision", "safetensors", "pydantic", "scikit-learn", "matplotlib"} <= alone


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("kfp", "compile", "pipelines"), ("kfp_server_api", "runs", "cluster"), ("minio", "store ls s3://b", "servers")],
)
def test_a_command_without_its_extra_names_it_in_one_sentence(missing: str, command: str, extra: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from untrigger.cli import main; main({command.split()!r})"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    name = command.split()[0]
    assert answer.stderr == f"error: `untrigger {name}` needs {missing}: pip install 'untrigger[{extra}]'\n"
    assert answer.returncode == 2


def test_every_image_of_ours_is_named_with_the_version() -> None:
    named = {
        (path.name, version)
        for folder in ("docker", "k8s", "pipelines")
        for path in (ROOT / folder).rglob("*.yaml")
        for version in re.findall(r"image: untrigger/[a-z-]+:(\S+)", path.read_text())
    }
    assert len(named) >= 5
    assert {version for _, version in named} == {untrigger.__version__}, named


def test_the_changelog_begins_with_the_version() -> None:
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == untrigger.__version__
