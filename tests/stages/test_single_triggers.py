"""The stage that reverses single triggers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from untrigger.classifiers import Classifier, save_classifier
from untrigger.datasets.images import ImageData, save_images
from untrigger.stages import single_triggers
from untrigger.triggers import load_triggers


@pytest.fixture
def inputs(backdoored: Classifier, tiny_images: ImageData, tmp_path: Path) -> dict[str, Any]:
    save_classifier(backdoored, tmp_path / "classifier")
    save_images(tiny_images, tmp_path / "data")
    return {"backdoored_classifier": tmp_path / "classifier", "defender_data": tmp_path / "data"}


def reversed_for(label: str, inputs: dict[str, Any], folder: Path, search_images: str = "other_classes") -> Tensor:
    single_triggers.run(
        **inputs,
        reversed_triggers=folder,
        pixel_sgd={"restarts": 2, "steps": 1, "batch_size": 4},
        target_class=0,
        search_images=search_images,
        trigger_size=(3, 3),
        seed=0,
        label=label,
    )
    return load_triggers(folder)


def test_the_triggers_of_a_sweep_have_restarts_of_their_own(inputs: dict[str, Any], tmp_path: Path) -> None:
    first, again, other = (
        reversed_for(label, inputs, tmp_path / f"{number}")
        for number, label in enumerate(["binary:1", "binary:1", "binary:2"])
    )
    assert torch.equal(first, again)
    apart = torch.cdist(first.flatten(1), other.flatten(1))
    assert apart.min() > 0.5, "no restart began where one of the other trigger did"


def test_images_of_the_target_class_are_searched_with_only_where_all_are(
    inputs: dict[str, Any], tiny_images: ImageData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everywhere = reversed_for("", inputs, tmp_path / "all", search_images="all")
    assert not torch.equal(everywhere, reversed_for("", inputs, tmp_path / "others"))
    save_images(replace(tiny_images, labels=torch.zeros_like(tiny_images.labels)), tmp_path / "data")
    with pytest.raises(SystemExit):
        reversed_for("", inputs, tmp_path / "none")
    assert "every image belongs to the target class 0" in capsys.readouterr().out
