"""`untrigger inspect` says what a file is, and refuses in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from tests.support.foreign_networks import CifarNetwork, torchvision_network
from untrigger.checkpoints.foreign import read_foreign
from untrigger.classifiers import Classifier, save_classifier
from untrigger.cli import main
from untrigger.networks.architectures import build_network
from untrigger.networks.torchvision_import import models
from untrigger.settings.methods import ClassifierSettings


def inspect(*words: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


@pytest.mark.slow
def test_a_file_is_described_with_its_normalisations_by_accuracy(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save({"net": models.resnet18(num_classes=10).state_dict()}, file)
    found = json.loads(inspect(file, "--dataset", "digits", "--json").output)
    accuracies = [each["accuracy"] for each in found["normalisation"]]
    assert len(accuracies) == 6 and accuracies == sorted(accuracies, reverse=True)
    del found["normalisation"]
    assert found == {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "kind": "torch zip",
        "dialect": "torchvision",
        "architecture": "resnet18_7x7",
        "classes": 10,
    }


def test_a_file_is_described_without_data_too(tmp_path: Path) -> None:
    torch.save(torchvision_network(34, "3x3").state_dict(), tmp_path / "model.ckpt")
    output = inspect(tmp_path / "model.ckpt").output
    assert "network:       resnet34, 7 classes" in output and "names as in torchvision" in output


def test_a_width_of_its_own_is_told_as_the_setting_that_trains_references_like_it(tmp_path: Path) -> None:
    torch.save(CifarNetwork((2, 2, 2, 2), width=8).state_dict(), tmp_path / "model.pth")
    assert json.loads(inspect(tmp_path / "model.pth", "--json").output)["stem_width"] == 8
    assert "resnet18 with --classifier.stem-width 8, 7 classes" in inspect(tmp_path / "model.pth").output
    like_it = build_network(ClassifierSettings(architecture="resnet18", stem_width=8), 7).state_dict()
    torch.save(like_it, tmp_path / "like-it.pth")
    assert read_foreign(tmp_path / "like-it.pth").match.read_as("resnet18", ClassifierSettings()).stem_width == 8


def test_the_classifier_of_a_run_is_described(tiny_classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(tiny_classifier, tmp_path)
    found = json.loads(inspect(tmp_path, "--json").output)
    assert (found["kind"], found["architecture"], found["classes"]) == ("run", "small_resnet", 3)
    assert found["width"] == tiny_classifier.settings.width


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def test_the_weights_of_a_run_are_taken_with_their_description_and_refused_without(
    tiny_classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    weights = tmp_path / "classifier.safetensors"
    assert json.loads(inspect(weights, "--json").output)["kind"] == "run"
    refused = inspect(weights.rename(tmp_path / "weights.safetensors"))
    assert (
        refused.exit_code == 2 and "a part of a classifier that a run left: give the folder with its" in refused.output
    )


def test_a_hostile_file_is_refused_with_status_2_and_does_nothing(tmp_path: Path) -> None:
    torch.save({"net": Hostile(tmp_path / "canary")}, tmp_path / "model.pt")
    result = inspect(tmp_path / "model.pt", "--json")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and "'posix.mkdir'" in result.stderr
    assert not (tmp_path / "canary").exists()


def test_a_run_refuses_a_hostile_file_before_anything_is_started(tmp_path: Path) -> None:
    torch.save({"net": Hostile(tmp_path / "canary")}, tmp_path / "model.pt")
    words = ("run", "--dataset", "digits", "--weights", str(tmp_path / "model.pt"), "--output", str(tmp_path / "out"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "'posix.mkdir'" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("weights")
    assert "its name must end in .pt, .pth" in inspect(tmp_path / "model.txt").stderr
    assert "there is no such file" in inspect(tmp_path / "model.pt").stderr
