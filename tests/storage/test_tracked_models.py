"""Models that a real MLflow keeps, in a database on this machine, are fetched as files and never loaded by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pytorch
import pytest
import torch

from untrigger.checkpoints.foreign import read_foreign, read_state
from untrigger.errors import UserError
from untrigger.networks.architectures import build_network
from untrigger.settings.methods import ClassifierSettings
from untrigger.storage.downloads import CACHE
from untrigger.storage.sources import Source, model_place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_network(ClassifierSettings(architecture="small_resnet", width=4), 3).eval()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """The address of a server that holds the network in several ways, and the id of the run."""
    folder, environment = tmp_path_factory.mktemp("mlflow"), pytest.MonkeyPatch()
    address = f"sqlite:///{folder / 'mlflow.db'}"
    environment.setenv("MLFLOW_TRACKING_URI", address)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", (folder / "artifacts").as_uri()))
    how: dict[str, Any] = {"input_example": torch.rand(2, 3, 32, 32).numpy(), "pip_requirements": ["torch"]}
    with mlflow.start_run() as run:
        mlflow.pytorch.log_state_dict(network.state_dict(), artifact_path="weights")
        mlflow.log_text("not a model", "weights/notes.txt")
        for format in ("pickle", "pt2"):
            mlflow.pytorch.log_model(
                network, name=format, registered_model_name=format, serialization_format=format, **how
            )
    yield address, run.info.run_id
    environment.undo()


@pytest.fixture(autouse=True)
def at_the_server(server: tuple[str, str], tmp_path: Path, no_tracking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


@pytest.mark.parametrize("address", ["runs:/{run}/weights", "runs:/{run}/weights/state_dict.pth", "models:/pt2/1"])
def test_weights_are_fetched_and_read(address: str, server: tuple[str, str], network: torch.nn.Module) -> None:
    found, saved = read_state(model_place(address.format(run=server[1]))), network.state_dict()
    assert set(found) == set(saved) and all(torch.equal(found[name], saved[name]) for name in saved)


def test_only_the_file_that_is_needed_is_fetched(tmp_path: Path) -> None:
    model_place("models:/pt2/1")
    files = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(files) == ["model.pt2", "server.txt"]


def test_a_whole_model_that_was_pickled_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"SmallResNet', which makes no tensor and was not run: save the state dict"):
        read_foreign(model_place("models:/pickle/1"))


def test_where_no_server_is_named_the_copy_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Source.of("model", "models:/pt2/1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    after = Source.of("model", "models:/pt2/1")
    assert before.files() == after.files() and before.identity() == after.identity()
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI"):
        Source.of("model", "models:/pickle/1")


def test_the_copy_of_another_server_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model_place("models:/pt2/1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(UserError, match=r"cannot fetch models:/pt2/1.* from MLflow at sqlite:.*not found"):
        model_place("models:/pt2/1")


@pytest.mark.parametrize("address", ["models:/pt2@champion", "models:/pt2/latest", "models:/m-0123abc", "runs:/"])
def test_what_may_move_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="names no model that stays what it is"):
        Source.of("model", address)


def test_what_is_not_there_or_not_one_file_is_refused(server: tuple[str, str]) -> None:
    for address, told in (
        ("models:/missing/1", "cannot fetch"),
        (f"runs:/{server[1]}/nothing", "and holds none"),
        ("runs:/abc/weights", "cannot fetch"),
    ):
        with pytest.raises(UserError, match=told) as refusal:
            Source.of("model", address)
        assert "\n" not in str(refusal.value)
