"""Defences by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from untrigger import register_defence
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.registry import find_defence
from untrigger.errors import UserError
from untrigger.plugins import PLUGINS
from untrigger.settings.grids import GRID_METHODS
from untrigger.settings.other_defences import FineTuningSettings
from untrigger.training import OnEpoch


def untouched(
    classifier: Classifier, data: ImageData, settings: Any, *, rng: torch.Generator, on_epoch: OnEpoch | None = None
) -> Classifier:
    return copy.deepcopy(classifier)


def test_an_own_defence_is_found_by_its_name_and_may_be_registered_again() -> None:
    for settings in (FineTuningSettings(), FineTuningSettings(epochs=3)):
        register_defence("untouched", untouched, settings)
        found = find_defence("untouched")
        assert (found.defend, found.settings) == (untouched, settings)


@pytest.mark.parametrize("name", GRID_METHODS)
def test_the_name_of_a_built_in_method_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is built in"):
        register_defence(name, untouched, FineTuningSettings())


def test_a_plugin_registers_one_and_what_nobody_registers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Path(__file__).parents[2] / "examples" / "own_defence.py"
    (tmp_path / "shaken_plugin.py").write_text(example.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "shaken_plugin")
    assert find_defence("shaken").settings is not None
    with pytest.raises(UserError, match="unknown method 'prayer': choose one of ensemble, fine_pruning, "):
        find_defence("prayer")
