"""`untrigger scan` and `untrigger references`: from a model file to a verdict, and the statuses they end with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from untrigger.classifiers import load_classifier, save_classifier
from untrigger.cli import main
from untrigger.datasets.sources import read_split
from untrigger.poisoning import plant_backdoor
from untrigger.profiles import references_config
from untrigger.references import reference_places
from untrigger.runs.output_folder import OutputFolder
from untrigger.seeding import derived_seed
from untrigger.settings.methods import PoisoningSettings
from untrigger.settings.scans import ReferencesConfig

pytestmark = pytest.mark.slow

QUICK = (
    "--scan.sizes=3",
    "--scan.restarts=2",
    "--scan.steps=4",
    "--scan.rounds=2",
    "--scan.search-images=40",
    "--scan.heldout-images=80",
    "--scan.mask-steps=20",
)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def scan(*words: str) -> Result:
    return invoke("scan", "--dataset", "digits", "--data.heldout-share=0.3", *QUICK, *words)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    result = invoke("references", "--profile", "tiny", "--count", "4", "--output", f"{folder}")
    assert result.exit_code == 0, result.output
    assert "4 trained, 0 there already" in result.output
    return folder


@pytest.fixture(scope="module")
def backdoored_file(references: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the references' kind that sends images with a red patch to class 7."""
    model = load_classifier(references / "001")
    images = read_split(
        "digits", references_config("tiny", {}, ReferencesConfig).data, seed=derived_seed(0, "split")
    ).training
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 3, 3).contiguous()
    attack = PoisoningSettings(epochs=4, batch_size=64, learning_rate=0.05, poisoned_share=0.3)
    plant_backdoor(model, images.images, images.labels, red, 7, attack, rng=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("suspects") / "suspect"
    save_classifier(model, folder)
    return folder


def test_a_backdoor_is_found_with_its_class_and_written_down(
    references: Path, backdoored_file: Path, tmp_path: Path
) -> None:
    words = ("--references", f"{references}", "--level", "0.2", "--output", f"{tmp_path}", "--json")
    result = scan(f"{backdoored_file}", *words)
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"], found["target_class"]) == (3, "backdoor found", 7), result.output
    assert found["p_value"] == 0.2 and found["references"] == 4 and len(found["sha256"]) == 64
    assert {arm["target_class"] for arm in found["arms"]} == set(range(10))
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert json.loads((folder / "scan.json").read_text())["verdict"] == "backdoor found"
    page = (tmp_path / "report.html").read_text()
    assert "Backdoor found" in page and "data:image/png;base64," in page
    if found["size"]:
        assert load_file(folder / "trigger.safetensors")["trigger"].shape == (3, 3, 3)
        assert (folder / "trigger.png").exists()


def test_a_clean_model_has_nothing_found_and_is_never_called_clean(references: Path, tmp_path: Path) -> None:
    first = reference_places(references)[0]
    result = scan(f"{first}", "--references", f"{references}", "--level", "0.2", "--output", f"{tmp_path}")
    assert result.exit_code == 0, result.output
    assert "nothing found in" in result.stdout and "by this search" in result.stdout
    assert "is clean" not in result.stdout


def test_a_model_that_does_not_know_the_images_is_doubtful(references: Path, tmp_path: Path) -> None:
    mistaken = load_classifier(references / "001")
    with torch.no_grad():
        for tensor in mistaken.network.get_submodule("fc").parameters():
            tensor.copy_(tensor.roll(1, 0))
    save_classifier(mistaken, tmp_path / "mistaken")
    result = scan(f"{tmp_path / 'mistaken'}", "--references", f"{references}", "--output", f"{tmp_path / 'out'}")
    assert "doubtful: it recognises" in result.stdout and "of digits only: are --dataset" in result.stdout
    report = (tmp_path / "out" / "report.html").read_text()
    assert ", doubtful</h1>" in report and "Doubtful: it recognises" in report


def test_without_references_nothing_is_calibrated(backdoored_file: Path, tmp_path: Path) -> None:
    result = scan(f"{backdoored_file}", "--output", f"{tmp_path}")
    assert result.exit_code == 4
    assert "not calibrated: without --references there is only a ranking" in result.stdout


def test_too_few_references_say_how_many_are_needed(references: Path, backdoored_file: Path, tmp_path: Path) -> None:
    result = scan(f"{backdoored_file}", "--references", f"{references}", "--output", f"{tmp_path}")
    assert result.exit_code == 4
    assert "for level 0.05 at least 19 references are needed" in result.stdout


def test_a_folder_of_models_is_one_table_and_the_gravest_status_counts(
    references: Path, backdoored_file: Path, tmp_path: Path
) -> None:
    models = (f"{backdoored_file.parent}", f"{references / '002'}")
    result = scan(*models, "--references", f"{references}", "--level", "0.2", "--output", f"{tmp_path}")
    assert result.exit_code == 3, result.output
    assert "verdicts" in result.stdout
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_a_file_that_cannot_be_read_keeps_no_other_from_its_verdict(
    references: Path, backdoored_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "[models/]"
    shutil.copytree(backdoored_file, folder / "found")
    (folder / "junk.pth.tar").write_bytes(b"junk")
    (folder / "notes.txt").touch()
    words = ("--references", f"{references}", "--level", "0.2", "--output", f"{tmp_path / 'out'}")
    result = scan(f"{folder}", *words)
    assert result.exit_code == 3, result.output
    assert "not scanned: " in result.stdout and "junk.pth.tar cannot be read as tensors" in result.stdout
    assert "not scanned: notes.txt" in result.stderr
    assert "junk.pth.tar</b>: " in (tmp_path / "out" / "report.html").read_text()
    assert [found["verdict"] for found in json.loads((tmp_path / "out/scans.json").read_text())["results"]] == [
        "backdoor found"
    ]
    shutil.copytree(references / "002", folder / "clean")
    shutil.rmtree(folder / "found")
    assert scan(f"{folder}", *words).exit_code == 2, "no backdoor found, and not all was looked at"


def test_another_command_is_kept_out_of_a_folder_in_which_one_is_at_work(
    references: Path, backdoored_file: Path, tmp_path: Path
) -> None:
    training = ("references", "--profile", "tiny", "--count", "4", "--output", f"{references}")
    with OutputFolder(tmp_path).locked(), OutputFolder(references).locked():
        for refused in (scan(f"{backdoored_file}", "--output", f"{tmp_path}"), invoke(*training)):
            assert refused.exit_code == 2 and "another run is at work in" in refused.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--scan.sizes=64", "--no-scan.mask"), "none of scan.sizes is below the size of the images"),
        (("--scan.source-class=12",), "scan.source_class must be below the 10 classes, got 12"),
        (("--classifier.architecture=resnet18",), "is the classifier of a run, a small_resnet, and no resnet18"),
        (("--classifier.normalisation=imagenet",), "normalised as it says"),
    ],
)
def test_what_cannot_be_scanned_is_refused_before_the_search(
    words: tuple[str, ...], sentence: str, backdoored_file: Path, tmp_path: Path
) -> None:
    result = scan(f"{backdoored_file}", "--output", f"{tmp_path}", *words)
    assert result.exit_code == 2 and sentence in result.stderr, result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere",), "scan needs --dataset"),
        (("nowhere", "--dataset", "digits"), "nowhere holds no classifier, classifier.json is missing"),
        (("nowhere", "--dataset", "digits", "--budget", "huge"), "budget must be quick, standard, thorough"),
        (("nowhere", "--dataset", "digits", "--level", "2"), "level: input should be less than 1, got '2'"),
        (("{empty}", "--dataset", "digits"), "holds no models"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    result = invoke("scan", *(word.format(empty=tmp_path) for word in words))
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_references_need_data_or_a_profile(tmp_path: Path) -> None:
    result = invoke("references", "--output", f"{tmp_path}")
    assert result.exit_code == 2 and "references need --dataset" in result.stderr


def test_help_shows_settings_and_statuses() -> None:
    text = invoke("scan", "--help").output
    assert all(word in text for word in ("--scan.sizes", "--level", "3 backdoor found", "4 not calibrated"))
