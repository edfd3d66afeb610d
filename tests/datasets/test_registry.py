"""Datasets of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from untrigger.datasets.decoding import OnProgress
from untrigger.datasets.images import ImageData
from untrigger.datasets.registry import READERS, register_dataset
from untrigger.datasets.sources import check_dataset, dataset_source, descriptions, read_split
from untrigger.errors import UserError
from untrigger.plugins import PLUGINS
from untrigger.settings.methods import DataSettings

SETTINGS = DataSettings()


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = dict(READERS)
    yield
    READERS.clear()
    READERS.update(known)


def read_stripes(path: Path, settings: DataSettings, on_progress: OnProgress | None) -> tuple[ImageData, None]:
    count = int((path / "count").read_text())
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return ImageData(images, torch.arange(count) % 2, ("even", "odd")), None


def test_a_registered_dataset_is_read_split_listed_and_followed(tmp_path: Path) -> None:
    register_dataset("stripes", read_stripes, description="made up")
    (tmp_path / "count").write_text("60")
    name = f"stripes:{tmp_path}"
    split = read_split(name, SETTINGS, seed=0)
    assert len(split.training) + len(split.defender) + len(split.evaluation) == 60
    assert descriptions()["stripes:PATH"] == "made up"
    before = dataset_source(name).identity()
    (tmp_path / "count").write_text("61")
    assert dataset_source(name).identity() != before
    with pytest.raises(UserError, match=r"unknown dataset 'stripes': give one of digits, .*stripes:PATH"):
        check_dataset("stripes", SETTINGS)


def test_a_plugin_brings_its_dataset_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes_plugin.py").write_text(
        "from tests.datasets.test_registry import read_stripes\n"
        "from untrigger.datasets.registry import register_dataset\n"
        "register_dataset('plugged', read_stripes, description='from outside', default_path='.')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "stripes_plugin")
    (tmp_path / "count").write_text("60")
    monkeypatch.chdir(tmp_path)
    assert read_split("plugged", SETTINGS, seed=0).training.class_names == ("even", "odd")


@pytest.mark.parametrize("name", ["digits", "s3", "two words", "a:b", ""])
def test_a_taken_or_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is taken, or no name"):
        register_dataset(name, read_stripes, description="made up")
