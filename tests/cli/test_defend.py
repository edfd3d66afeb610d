"""`untrigger defend` closes what opens a file of somebody else, and writes the model back as it came."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from untrigger.checkpoints.reading import read_checkpoint
from untrigger.classifiers import Classifier, ClassifierDescription, save_classifier
from untrigger.cli import main
from untrigger.networks.architectures import build_network
from untrigger.reports.defences import DefenceResult

pytestmark = pytest.mark.slow

SMALL = {
    "data.heldout-share": 0.9,
    "data.defender-share": 0.7,
    "classifier.precision": "fp32",
    "betas": "0.5,0.9",
    "samples": 50,
    "flow.steps": 60,
    "flow.layers": 2,
    "flow.hidden": 16,
    "flow.samples": 48,
    "flow.triggers": 16,
    "flow.images-per-trigger": 4,
    "retraining.epochs": 10,
    "retraining.batch-size": 16,
    "retraining.learning-rate": 0.02,
    "retraining.stamped-share": 0.5,
    "retraining.round-level": 0.4,
    "strongest-left.restarts": 4,
    "strongest-left.steps": 40,
    "scan.sizes": 3,
}
OPTIONS = [f"--{name}={value}" for name, value in SMALL.items()] + ["--no-scan.mask"]
GIVEN = ["--target-class=0", "--patch-size=3"]
BRIEFLY = ["--flow.steps=5", "--retraining.epochs=1", "--retraining.rounds=1"]


def attack_result(classifier: Classifier, path: Path) -> Path:
    """A file as BackdoorBench writes it, made from parallel training."""
    state = OrderedDict((f"module.{name}", value) for name, value in classifier.network.state_dict().items())
    poisoned = {"bd_dataset": {np.int64(3): np.arange(5)}, "poison_lookup": np.array([0, 1, 1])}
    content = {
        "model_name": "small",
        "num_classes": 3,
        "model": state,
        "data_path": "./data",
        "img_size": (16, 16, 3),
        "clean_data": "tiny",
        "bd_train": poisoned,
        "bd_test": {"targets": np.zeros(4), **poisoned},
    }
    torch.save(content, path)
    return path


def defend(file: Path, dataset: str, *words: object) -> Result:
    output = file.parent / "out"
    options = [*OPTIONS, "--dataset", dataset, "--output", str(output), *map(str, words)]
    return CliRunner().invoke(main, ["defend", str(file), *options])


def told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_backdoored_file_of_backdoorbench_is_closed_and_comes_back_by_its_own_names(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    file = attack_result(backdoored, tmp_path / "attack_result.pt")
    result = defend(file, tiny_folder, *GIVEN, "--json")
    assert result.exit_code == 0, result.output
    found = told(result)
    assert found["outcome"] == "closed" and found["before"]["strongest"] > 0.9 and found["after"]["strongest"] < 0.4
    assert found["after"]["accuracy"] >= found["before"]["accuracy"] - 0.1 and found["rounds"][-1] <= 0.4
    written, state = load_file(found["written"]), read_checkpoint(file)["model"]
    assert {name: (value.shape, value.dtype) for name, value in written.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    assert not torch.equal(written["module.conv1.weight"], state["module.conv1.weight"])
    report = (Path(found["written"]).parent / "report.html").read_text()
    assert "<h1>Closed</h1>" in report and report.count("data:image/png;base64,") == 2


def test_the_lines_that_are_printed_load_the_model_where_it_came_from(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    result = defend(attack_result(backdoored, tmp_path / "model.pt"), tiny_folder, *GIVEN, *BRIEFLY)
    told, sentence, behind = result.stdout.partition("class 0 (0-red) by a patch of 3x3 pixels")
    assert told and sentence, result.output
    lines = [line.strip() for line in behind.splitlines() if line.startswith("  ")]
    mine = torch.nn.DataParallel(build_network(backdoored.settings, 3))
    exec("\n".join(lines), {"model": mine})
    assert not torch.equal(mine.get_parameter("module.conv1.weight"), backdoored.network.get_parameter("conv1.weight"))


def test_of_a_model_that_nothing_opens_nothing_is_claimed_or_written(
    clean: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    result = defend(attack_result(clean, tmp_path / "model.pt"), tiny_folder, *GIVEN, "--json")
    found = told(result)
    assert (result.exit_code, found["outcome"]) == (0, "nothing found")
    assert found["after"] == found["before"] and found["written"] is None and found["rounds"] == []
    assert not list((tmp_path / "out").rglob("*.pt")) and not list((tmp_path / "out").rglob("model.safetensors"))


def test_the_scan_among_references_finds_what_is_closed(
    backdoored: Classifier, clean: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    save_classifier(clean, tmp_path / "references" / "001")
    file = attack_result(backdoored, tmp_path / "model.pt")
    # One reference is enough for a level of a half.
    result = defend(file, tiny_folder, "--references", tmp_path / "references", "--level=0.5", "--json")
    found = told(result)
    assert (result.exit_code, found["outcome"]) == (0, "closed"), result.output
    assert (found["target_class"], found["size"]) == (0, 3) and found["scanned"].startswith("backdoor found")
    assert found["usual"]["strongest"] < 0.4, "what opens the reference"
    (scan,) = (tmp_path / "out" / "scan").glob("*/scan.json")
    again = defend(file, tiny_folder, "--scan", scan, "--retraining.round-level=1", "--json")
    assert (again.exit_code, told(again)["outcome"]) == (3, "not reproduced"), "the scan found what this did not"
    scan.write_text(json.dumps({**json.loads(scan.read_text()), "doubts": ["trained otherwise"]}))
    doubtful = defend(file, tiny_folder, "--scan", scan, "--retraining.round-level=1", "--json")
    assert "warning: the verdict of the scan is doubtful: trained otherwise" in doubtful.stderr
    assert told(doubtful)["scanned"].endswith("; doubtful: trained otherwise")
    other = defend(attack_result(clean, tmp_path / "other.pt"), tiny_folder, "--scan", scan)
    assert other.exit_code == 2 and "is the scan of another model" in other.stderr


def test_what_a_scan_found_by_a_mask_is_closed_and_measured_by_masks(
    backdoored: Classifier, clean: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    save_classifier(clean, tmp_path / "references" / "001")
    file = attack_result(backdoored, tmp_path / "model.pt")
    idle = ("--scan.sizes=2", "--scan.steps=1", "--scan.rounds=1", "--scan.restarts=1")
    searching = ("--scan.mask", "--scan.mask-steps=100", *idle)
    result = defend(file, tiny_folder, "--references", tmp_path / "references", "--level=0.5", *searching, "--json")
    found = told(result)
    assert (result.exit_code, found["outcome"]) == (0, "closed"), result.output
    assert "size" not in found or found["size"] is None
    assert found["before"]["strongest"] > 0.9 and found["after"]["strongest"] < 0.1
    assert found["before"]["mask"] < found["usual"]["mask"] <= found["after"]["mask"] == found["rounds"][-1]
    report = (Path(found["written"]).parent / "report.html").read_text()
    assert "class 0 (0-red) by a mask" in report and "smallest mask, pixels" in report
    (scan,) = (tmp_path / "out" / "scan").glob("*/scan.json")
    by_others = told(defend(file, tiny_folder, "--scan", scan, *searching, "--json"))
    assert by_others["usual"] is None and by_others["before"] == found["before"]
    assert by_others["rounds"][: len(found["rounds"])] == found["rounds"], "another level ends the same rounds"


def test_a_class_that_is_named_is_closed_by_its_mask_without_references(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    file = attack_result(backdoored, tmp_path / "model.pt")
    searching = ("--scan.mask", "--scan.mask-steps=100", "--scan.sizes=2", "--scan.steps=1", "--scan.rounds=1")
    undone = defend(file, tiny_folder, *searching, "--json")
    assert (undone.exit_code, told(undone)["outcome"]) == (4, "not calibrated")
    (scan,) = (tmp_path / "out" / "scan").glob("*/scan.json")
    found = told(defend(file, tiny_folder, "--scan", scan, "--target-class=0", *searching, "--json"))
    assert found["target_class"] == 0 and found["size"] is None and len(found["rounds"]) >= 1
    assert found["before"]["strongest"] > 0.9 and found["after"]["strongest"] < 0.1
    idle = ("--retraining.learning-rate=1e-9", "--retraining.epochs=1", "--retraining.rounds=1")
    left = defend(file, tiny_folder, "--scan", scan, "--target-class=0", *searching, *idle)
    assert left.exit_code == 3 and "still open" in left.output and "where the first one lay, F of" in left.output
    assert f"closed would be: no mask below {found['allowed']['mask']:.1f} pixels, found was one of" in left.output


def test_without_references_nothing_is_done_and_the_status_says_so(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    result = defend(attack_result(backdoored, tmp_path / "model.pt"), tiny_folder)
    assert result.exit_code == 4 and "nothing was done: not calibrated" in result.stdout
    assert "give --references, or --target-class (with --patch-size" in result.stdout
    assert not list((tmp_path / "out").rglob("model.safetensors"))


def test_the_classifier_of_a_run_comes_back_as_one_and_what_is_left_open_is_told_by_the_status(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    save_classifier(backdoored, tmp_path / "classifier")
    idle = ("--retraining.learning-rate=1e-9", *BRIEFLY, "--json")
    result = defend(tmp_path / "classifier", tiny_folder, *GIVEN, *idle)
    found = told(result)
    assert (result.exit_code, found["outcome"]) == (3, "still open")
    assert ClassifierDescription.load(Path(found["written"])).settings.architecture == "small_resnet"
    report = (Path(found["written"]).parent / "report.html").read_text()
    assert "after 1 round (closed would be: no trigger with F above 0.400, found was one of " in report


def test_a_model_that_the_retraining_destroyed_does_not_count_as_closed(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    file = attack_result(backdoored, tmp_path / "model.pt")
    result = defend(file, tiny_folder, *GIVEN, "--flow.steps=5", "--retraining.learning-rate=5", "--json")
    assert (result.exit_code, told(result)["outcome"]) == (3, "spoilt")
    assert (
        "retraining cost it more than it may, lower --retraining.learning-rate"
        in DefenceResult.of({name: value for name, value in told(result).items() if name != "format"}).sentence
    )


def test_nothing_of_an_earlier_defence_stands_beside_what_the_next_one_says(
    backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    file = attack_result(backdoored, tmp_path / "model.pt")
    written = Path(told(defend(file, tiny_folder, *GIVEN, *BRIEFLY, "--json"))["written"])
    assert written.exists()
    again = told(defend(file, tiny_folder, *GIVEN, "--retraining.round-level=1", "--json"))
    assert (again["outcome"], again["written"]) == ("nothing found", None) and not written.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--patch-size=3"], "patch_size needs target_class"),
        (["--target-class=0"], "the scan found no masks for other classes to compare with: give --references"),
        (["--target-class=3", "--patch-size=3"], "--target-class must be below 3, got 3"),
        (["--target-class=0", "--patch-size=17"], "larger than the images"),
        (["--profile=large"], "unknown profile 'large'"),
        (["--scan=missing.json"], "cannot read the scan missing.json"),
        (["--scan=missing.json", *GIVEN], "with --target-class and --patch-size nothing of --scan counts"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    words: list[str], sentence: str, backdoored: Classifier, tiny_folder: str, tmp_path: Path
) -> None:
    result = defend(attack_result(backdoored, tmp_path / "model.pt"), tiny_folder, *words)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 2 and len(lines) == 1 and sentence in lines[0], result.output
