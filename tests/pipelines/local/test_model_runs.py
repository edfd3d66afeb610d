"""The pipelines over models of others on this machine: they find what a command finds in one go."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from tests.support.local_runs import executed
from untrigger.classifiers import load_classifier
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.profiles import references_config
from untrigger.references import Recipe, reference_places, train_references
from untrigger.reports.defences import DefenceResult
from untrigger.reports.scans import ScanReport
from untrigger.runs.defences import Defending, defend_model
from untrigger.runs.scans import scan_models
from untrigger.seeding import derived_seed
from untrigger.settings.defences import DefendConfig
from untrigger.settings.model_runs import DefendRunConfig, ReferencesRunConfig, ScanRunConfig
from untrigger.settings.scans import ReferencesConfig, ScanConfig

pytestmark = [pytest.mark.pipeline, pytest.mark.usefixtures("one_thread")]

QUICK: dict[str, Any] = {
    "sizes": (3,),
    "restarts": 2,
    "rounds": 2,
    "steps": 4,
    "search_images": 40,
    "heldout_images": 80,
    "mask_steps": 20,
}
RECIPE = references_config("tiny", {"count": 2}, ReferencesConfig)
SCAN: dict[str, Any] = {"dataset": "digits", "scan": QUICK, "level": 0.5, "data": RECIPE.data.record()}
CLOSED: dict[str, Any] = {
    "target_class": 3,
    "patch_size": 3,
    "betas": (0.5,),
    "samples": 10,
    "flow": {"steps": 5, "layers": 2, "hidden": 8, "samples": 16, "triggers": 8, "images_per_trigger": 4},
    "retraining": {"epochs": 1, "rounds": 1, "round_level": 0.0},
    "strongest_left": {"restarts": 2, "steps": 3},
}


PRINT = print


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two references, trained and scanned by the pipeline."""
    output = tmp_path_factory.mktemp("runs") / "references"
    found = executed(ReferencesRunConfig.of({**RECIPE.record(), "scan": QUICK, "references_per_task": 1}), output)
    assert found.count == 2 and found.address is None
    return output / "references"


def test_tasks_that_ran_side_by_side_give_print_back(trained: Path) -> None:
    assert trained.is_dir() and builtins.print is PRINT


def test_references_are_those_that_the_command_trains_and_hold_what_a_scan_finds(trained: Path, tmp_path: Path) -> None:
    training = read_split("digits", RECIPE.data, seed=derived_seed(0, "split")).training
    assert train_references(tmp_path, RECIPE, training) == 2
    assert Recipe.load(trained) == Recipe.load(tmp_path)
    for place in reference_places(tmp_path):
        file = f"{place.name}/classifier.safetensors"
        assert (trained / file).read_bytes() == (tmp_path / file).read_bytes()
        (kept,) = (trained / place.name / "scans").iterdir()
        assert (kept / "measured.json").exists()


def without_seconds(found: ScanReport | DefenceResult) -> str:
    """All that is the same whoever computed it, and how fast."""
    times = {"seconds": 0.0, "mask_seconds": 0.0}
    if isinstance(found, DefenceResult):
        return found.model_copy(
            update={**times, "written": found.written and Path(found.written).name}
        ).model_dump_json()
    return "".join(each.model_copy(update=times).model_dump_json() for each in found.results)


def test_a_scan_finds_what_the_command_finds_and_mlflow_can_compare(trained: Path, tmp_path: Path) -> None:
    models = tuple(str(place) for place in reference_places(trained))
    told = {**SCAN, "models": models, "references": str(trained), "references_per_task": 1}
    found = executed(ScanRunConfig.of(told), tmp_path / "run")
    scan_models(models, ScanConfig.of(SCAN), trained, tmp_path / "once", say=lambda _: None)
    once = ScanReport.load(tmp_path / "once")
    assert without_seconds(found) == without_seconds(once)
    assert [each.references for each in found.results] == [2, 2] and found.results[0].p_value is not None
    for each in found.results:
        folder, own = tmp_path / "run" / "models" / each.folder, tmp_path / "once" / each.folder
        assert {path.name for path in folder.iterdir()} == {path.name for path in own.iterdir()}
        for file in ("found.safetensors", "patches.png"):
            assert (folder / file).read_bytes() == (own / file).read_bytes()
    assert "data:image/png;base64," in (tmp_path / "run" / "report.html").read_text()
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    runs = {run.info.run_name: run.data for run in client.search_runs(["1"])}
    for each in found.results:
        tracked = runs[f"scan of {each.model}"]
        assert tracked.params["sha256"] == each.sha256 and tracked.params["verdict"] == each.verdict
        assert tracked.params["doubtful"] == str(bool(each.doubts))
        assert tracked.metrics["p_value"] == each.p_value


def test_a_model_that_cannot_be_scanned_keeps_no_other_from_its_verdict(trained: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.pth"
    torch.save({"weight": torch.ones(3, 3)}, unknown)
    model = str(reference_places(trained)[0])
    told = {**SCAN, "models": (str(unknown), model), "models_per_task": 2, "references": str(trained)}
    found = executed(ScanRunConfig.of(told), tmp_path / "run")
    assert [each.model for each in found.results] == [model]
    assert list(found.failures) == [str(unknown)] and "holds no network that is known" in found.failures[str(unknown)]
    with pytest.raises(UserError, match=r"unknown.pth was not scanned: .* holds no network that is known"):
        executed(ScanRunConfig.of({**told, "models": (str(unknown),)}), tmp_path / "none")


def test_references_of_another_split_are_refused_before_anything_is_done(trained: Path, tmp_path: Path) -> None:
    told = {**SCAN, "models": (str(reference_places(trained)[0]),), "references": str(trained)}
    other = ScanRunConfig.of({**told, "data": {**SCAN["data"], "heldout_share": 0.5}})
    with pytest.raises(UserError, match=r"were trained with data.heldout_share .* not 0.5: give the same"):
        executed(other, tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()


def test_a_defence_does_what_the_command_does(trained: Path, tmp_path: Path) -> None:
    model = reference_places(trained)[0]
    told = {**SCAN, **CLOSED, "model": str(model), "references": str(trained)}
    found = executed(DefendRunConfig.of(told), tmp_path / "run")
    config = DefendConfig.of({**SCAN, **CLOSED})
    once = defend_model(str(model), Defending(config, tmp_path / "once", lambda _: None, references=trained))
    assert without_seconds(found) == without_seconds(once) and found.written == "classifier"
    weights, own = (
        load_file(folder / "classifier.safetensors")
        for folder in (tmp_path / "run" / "defence" / "classifier", tmp_path / "once" / once.folder / "classifier")
    )
    assert weights.keys() == own.keys() and all(bool((weights[name] == own[name]).all()) for name in own)
    (retrained,) = (tmp_path / "run" / "stages").glob("defence-*/retrained/classifier")
    load_classifier(retrained)


def test_what_a_scan_does_not_find_is_not_closed(trained: Path, tmp_path: Path) -> None:
    told = {**SCAN, "model": str(reference_places(trained)[0]), "level": 0.1, "references": str(trained)}
    found = executed(DefendRunConfig.of(told), tmp_path / "run")
    assert found.outcome == "not calibrated" and found.written is None
    assert "at least 9 references are needed" in found.scanned
