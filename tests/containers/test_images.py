"""What the built images hold, and what they must not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import docker
from untrigger import __version__
from untrigger.stages import identities

pytestmark = pytest.mark.container

STAGES = sorted({identity.target or identity.task for identity in identities.STAGES.values()})
IMAGES = (*STAGES, "mlflow-server", "seaweedfs")
ENVIRONMENT = {
    "PATH",
    "LANG",
    "HOME",
    "MPLCONFIGDIR",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "GIT_PYTHON_REFRESH",
    "MLFLOW_DISABLE_TELEMETRY",
    # What python:3.11-slim itself sets.
    "PYTHON_VERSION",
    "PYTHON_SHA256",
    "GPG_KEY",
}
BUILD_TOOLS = re.compile(
    r"/bin/(pip[\d.]*|g?cc|g\+\+|c\+\+|ld|make|cmake)$|python[^/]*/.*/?(pip|setuptools|wheel|ensurepip)$"
)
SECRETS = re.compile(
    r"/(\.netrc|\.pypirc|\.git|\.ssh|\.aws|\.env|pip\.conf|\.docker|\.cache|\.npmrc|id_[a-z0-9]+|[^/]*\.pem\.key)$"
)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def image(engine: docker.DockerClient, name: str) -> Any:
    return engine.images.get(f"untrigger/{name}:{__version__}")


def inside(engine: docker.DockerClient, name: str, *command: str, user: str = "") -> str:
    """The output of a command in a hardened container of an image."""
    output = engine.containers.run(
        image(engine, name).id,
        command=list(command[1:]),
        entrypoint=command[0],
        user=user,
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        remove=True,
    )
    return bytes(output).decode(errors="replace")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_numeric_user_and_says_what_it_is(engine: docker.DockerClient, name: str) -> None:
    configuration = image(engine, name).attrs["Config"]
    assert configuration["User"] == "10001:10001"
    assert not configuration.get("Healthcheck")
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.title"] == f"untrigger/{name}"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.source"]


@pytest.mark.parametrize("name", IMAGES)
def test_no_credential_host_setting_cache_or_build_tool_is_left_in_an_image(
    engine: docker.DockerClient, name: str
) -> None:
    environment = dict(line.split("=", 1) for line in image(engine, name).attrs["Config"]["Env"])
    assert environment.keys() <= ENVIRONMENT
    files = inside(engine, name, "find", "/", "-xdev", user="0:0").splitlines()
    assert len(files) > 1000
    assert [file for file in files if BUILD_TOOLS.search(file)] == []
    assert [file for file in files if SECRETS.search(file)] == []
    lists = [file for file in files if file.startswith(("/var/lib/apt/lists/", "/var/cache/apt/archives/"))]
    assert [file for file in lists if not file.endswith(("/lock", "/partial", "/auxfiles"))] == []


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_image_stays_small(engine: docker.DockerClient, name: str) -> None:
    assert image(engine, name).attrs["Size"] <= 1.6e9


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("open-run", ("kfp", "mlflow", "pydantic"), ("torch", "sklearn", "matplotlib", "pyarrow", "minio")),
        ("poison-training", ("kfp", "mlflow", "torch", "minio"), ("sklearn", "matplotlib", "pyarrow")),
        ("pixel-sgd", ("kfp", "mlflow", "torch", "minio"), ("sklearn", "scipy", "matplotlib", "pyarrow")),
        ("staircase", ("torch",), ("sklearn", "matplotlib", "pyarrow", "minio")),
        ("prepare-data", ("torch", "sklearn", "pyarrow", "minio"), ("matplotlib",)),
        ("visualisation", ("torch", "sklearn", "matplotlib"), ("pyarrow", "minio")),
        ("evaluation", ("torch", "matplotlib", "jinja2", "scipy"), ("sklearn", "pyarrow", "minio")),
        ("mlflow-server", ("mlflow", "boto3"), ("torch", "kfp")),
    ],
)
def test_an_image_holds_only_what_its_stage_needs(
    engine: docker.DockerClient, name: str, there: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    asked = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    assert inside(engine, name, "python", "-c", asked, *there, *absent).split() == list(there)


def test_the_stage_images_carry_the_cpu_build_of_torch_that_was_asked_for(engine: docker.DockerClient) -> None:
    told = inside(engine, "poison-training", "python", "-c", "import torch; print(torch.version.cuda)")
    assert told.strip() == "None"


@pytest.mark.parametrize(("variant", "status"), [("cpu", 0), ("cuda", 1)])
def test_the_build_fails_when_the_other_build_of_torch_slipped_in(
    engine: docker.DockerClient, variant: str, status: int
) -> None:
    check = (Path(__file__).parents[2] / "docker/torch_variant.py").read_text()
    container = engine.containers.run(
        image(engine, "poison-training").id, ["python", "-c", check, "check", variant], network_mode="none", detach=True
    )
    try:
        assert container.wait()["StatusCode"] == status
        assert "torch.version.cuda = None" in container.logs().decode()
    finally:
        container.remove()
