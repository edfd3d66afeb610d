"""Archives of torch.export are read for their weights, and nothing else in them is touched."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from untrigger.checkpoints.reading import file_kind, read_checkpoint
from untrigger.errors import UserError
from untrigger.networks.architectures import build_network
from untrigger.settings.methods import ClassifierSettings

CONFIG = "model_weights_config.json"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_network(ClassifierSettings(architecture="small_resnet", width=4), 3).eval()


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    torch.export.save(torch.export.export(network, (torch.rand(2, 3, 32, 32),)), path)
    return path


def rewritten(file: Path, folder: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The same archive with other contents."""
    path = folder / "rewritten.pt2"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, change(member.filename, source.read(member)))
    return path


def with_config(file: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The same archive with another description of one of its weights."""

    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith(CONFIG):
            return content
        described = json.loads(content)
        change(described["config"]["fc.weight"])
        return json.dumps(described).encode()

    return rewritten(file, folder, changed)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        read_checkpoint(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)
    return str(refusal.value)


def test_the_weights_are_those_that_were_saved(file: Path, network: torch.nn.Module) -> None:
    found, saved = read_checkpoint(file), network.state_dict()
    assert file_kind(file) == "torch.export" and set(found) == set(saved)
    assert all(torch.equal(found[name], saved[name]) and found[name].dtype == saved[name].dtype for name in saved)


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def test_hostile_sample_inputs_and_constants_are_never_unpickled(file: Path, tmp_path: Path) -> None:
    hostile = pickle.dumps(Hostile(tmp_path / "canary"))
    path = rewritten(file, tmp_path, lambda name, content: content if "/weights/" in name else hostile)
    with zipfile.ZipFile(path) as archive:
        assert any("sample_inputs" in name and archive.read(name) == hostile for name in archive.namelist())
    assert "byte order" in refused(path)
    path = rewritten(
        file, tmp_path, lambda name, content: content if "/weights/" in name or "byteorder" in name else hostile
    )
    assert set(read_checkpoint(path)) == set(read_checkpoint(file))
    assert not (tmp_path / "canary").exists()


def test_weights_that_are_pickles_are_refused(file: Path, tmp_path: Path) -> None:
    path = with_config(file, tmp_path, lambda weight: weight.update(use_pickle=True))
    assert "holds fc.weight as a pickle, which was not run" in refused(path)


def resize(weight: dict[str, Any], size: int, stride: int = 1) -> None:
    weight["tensor_meta"].update(sizes=[{"as_int": size}], strides=[{"as_int": stride}])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weight: resize(weight, 10**9), "does not hold all of fc.weight"),
        (lambda weight: resize(weight, 10**9, 0), "does not hold all of fc.weight"),
        (lambda weight: resize(weight, -1), "greater than or equal to 0"),
        (lambda weight: weight["tensor_meta"]["storage_offset"].update(as_int=47), "does not hold all of fc.weight"),
        (lambda weight: weight["tensor_meta"]["strides"].pop(), "damaged"),
        (lambda weight: weight["tensor_meta"].update(dtype=12), "in numbers of kind 12"),
        (lambda weight: weight.update(path_name="../../../../etc/passwd"), "no item named"),
        (lambda weight: weight.update(tensor_meta=None), "as a pickle"),
        (lambda weight: weight.clear(), "path_name is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object], told: str, file: Path, tmp_path: Path
) -> None:
    assert told in refused(with_config(file, tmp_path, change))


def test_many_names_for_one_weight_are_no_zip_bomb(file: Path, tmp_path: Path) -> None:
    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith(CONFIG):
            return content
        weight = json.loads(content)["config"]["layer2.conv2.weight"]
        return json.dumps({"config": {f"w{number}": weight for number in range(100)}}).encode()

    assert "zip bomb" in refused(rewritten(file, tmp_path, changed))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_an_archive_cut_short_is_refused(share: float, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt2"
    path.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refused(path)


def test_an_archive_without_weights_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Hostile(tmp_path / "canary")))
    assert "raw weights of 0 models" in refused(path) and not (tmp_path / "canary").exists()
