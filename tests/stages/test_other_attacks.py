"""The stages of a run whose attack is no patch, and sends one class alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.configs import SMALL, tiny_config
from tests.support.stages import artifact, run_stages
from tests.support.training import same, state
from untrigger.attacks.goals import one_to_one
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import Classifier, frozen, load_classifier
from untrigger.components.evaluation.component import evaluation
from untrigger.components.poison_training.component import poison_training
from untrigger.components.prepare_data.component import prepare_data
from untrigger.datasets.images import load_images
from untrigger.measurements import Rates
from untrigger.metrics import evaluate
from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.reports.tsne import TRUE_GROUP, Embedding
from untrigger.retraining import retrain
from untrigger.seeding import derived_rng
from untrigger.settings.runs import DefenseConfig
from untrigger.triggers import checkerboard

pytestmark = pytest.mark.slow

BLENDED = {"name": "blended", "ratio": 0.3, "goal": "one_to_one", "source_class": 1}


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> DefenseConfig:
    changes = {"classifier": {"precision": "fp32"}, "visualisation": {"perplexity": 3.0}}
    return tiny_config(dataset=tiny_folder, attack=BLENDED, **changes, **SMALL)


@pytest.fixture(scope="module")
def made(config: DefenseConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_stages(tmp_path_factory.mktemp("artifacts"), config)


def folder(made: dict[str, Any], name: str) -> Path:
    return Path(made[name].path)


def results(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(made, "report") / "results.json").read_text())
    return found


def test_the_rates_are_those_of_the_attacks_own_function_on_the_images_of_its_victims(
    config: DefenseConfig, made: dict[str, Any]
) -> None:
    data, suspect = load_images(folder(made, "evaluation_data")), load_classifier(folder(made, "backdoored"))
    attack, goal = build_attack(config.attack, checkerboard()), one_to_one(1, 0)

    def rates(classifier: Classifier, *purpose: str | int) -> Rates:
        return evaluate(classifier, data.images, data.labels, attack, goal, derived_rng(config.seed, *purpose))

    assert results(made)["before"] == rates(frozen(suspect, data.images), "evaluation", 0).model_dump()
    curve = json.loads((folder(made, "backdoored") / "curves.json").read_text())["poisoned"]
    assert curve[-1]["attack_success_rate"] == rates(suspect, "curve").attack_success_rate


def test_the_ideal_control_stamps_by_the_attacks_own_function(config: DefenseConfig, made: dict[str, Any]) -> None:
    data, suspect = load_images(folder(made, "defender_data")), load_classifier(folder(made, "backdoored"))
    attack, rng = build_attack(config.attack, checkerboard()), derived_rng(config.seed, "retraining", 0)
    expected = retrain(suspect, data.images, data.labels, attack, config.retraining, rng=rng)
    assert same(state(load_classifier(folder(made, "ideal") / "seed-0")), state(expected))


def test_what_is_no_patch_has_no_point_among_the_patches(made: dict[str, Any]) -> None:
    assert TRUE_GROUP not in Embedding.load(folder(made, "embedding")).group.tolist()


def test_the_report_names_the_attack_its_goal_and_what_was_searched(made: dict[str, Any]) -> None:
    sentence = "the trigger is no patch: a whole picture is mixed in"
    assert results(made)["attack"] == {
        "name": "blended",
        "goal": "one_to_one",
        "source_class": 1,
        "clean_label": False,
        "no_patch": sentence,
        "uses_trigger": True,
    }
    page = (folder(made, "report") / "report.html").read_text()
    assert f"{sentence}; all searches, that for what is left too, look for patches only" in page
    assert "attack blended\n(one_to_one: images of class 1 are sent to the target class), trigger checkerboard" in page


def test_a_trigger_that_an_attack_has_no_use_for_is_not_shown(
    config: DefenseConfig, made: dict[str, Any], tmp_path: Path
) -> None:
    evaluation.python_func(
        evaluation_data=made["evaluation_data"],
        defender_data=made["defender_data"],
        backdoored_classifier=made["backdoored"],
        true_trigger=made["true_trigger"],
        trigger_staircase=made["staircase"],
        embedding=made["embedding"],
        retrained=[made["retrained-ensemble"]],
        ideal=made["ideal"],
        report=artifact(tmp_path, "report"),
        trigger="checkerboard",
        config={**config.record(), "attack": {"name": "sinusoidal"}},
    )
    page = (tmp_path / "report" / "report.html").read_text().partition("<pre")[0]
    assert "attack sinusoidal" in page and "images of other classes" in page and "checkerboard" not in page
    assert not json.loads((tmp_path / "report" / "results.json").read_text())["attack"]["uses_trigger"]


def test_a_task_of_an_early_version_names_no_attack_and_plants_a_patch(
    config: DefenseConfig, made: dict[str, Any], tmp_path: Path
) -> None:
    task = pipeline_arguments(config)["poison_training_task"]
    early = {name: value for name, value in task.items() if name != "attack"}
    told = {"early": early, "patch": {**early, "attack": {"name": "patch"}}, "blended": task}
    weights = {}
    for name, each in told.items():
        poison_training.python_func(
            training_data=made["training_data"],
            evaluation_data=made["evaluation_data"],
            clean_classifier=made["clean"],
            backdoored_classifier=artifact(tmp_path, name),
            true_trigger=artifact(tmp_path, f"{name}-trigger"),
            trigger="checkerboard",
            task=each,
        )
        weights[name] = (tmp_path / name / "classifier.safetensors").read_bytes()
    assert weights["early"] == weights["patch"] != weights["blended"]


def test_a_source_class_that_the_data_lack_is_told_as_they_are_prepared(
    config: DefenseConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {name: artifact(tmp_path, name) for name in ("training_data", "defender_data", "evaluation_data")}
    with pytest.raises(SystemExit):
        prepare_data.python_func(**parts, task={**pipeline_arguments(config)["prepare_data_task"], "source_class": 3})
    assert "source_class must be below the number of classes" in capsys.readouterr().out
