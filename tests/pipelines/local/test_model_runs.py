"""The pipelines over models of others on this machine: they find what a command finds in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from untrigger.datasets.sources import read_split
from untrigger.pipelines.local.protocol import RunOptions, local_run
from untrigger.profiles import references_config
from untrigger.references import Recipe, reference_places, train_references
from untrigger.seeding import derived_seed
from untrigger.settings.model_runs import ReferencesRunConfig
from untrigger.settings.pipelines import RunConfig
from untrigger.settings.scans import ReferencesConfig

pytestmark = pytest.mark.pipeline

QUICK: dict[str, Any] = {
    "sizes": (3,),
    "restarts": 2,
    "rounds": 2,
    "steps": 4,
    "search_images": 40,
    "heldout_images": 80,
    "mask_steps": 20,
}
SCAN: dict[str, Any] = {"dataset": "digits", "scan": QUICK, "level": 0.5, "data": {"defender_share": 0.4}}
CLOSED: dict[str, Any] = {
    "target_class": 3,
    "patch_size": 3,
    "betas": (0.5,),
    "samples": 10,
    "flow": {"steps": 5, "layers": 2, "hidden": 8, "samples": 16, "triggers": 8, "images_per_trigger": 4},
    "retraining": {"epochs": 1, "rounds": 1, "round_level": 0.0},
    "strongest_left": {"restarts": 2, "steps": 3},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A run leaves its places in the environment; how many threads share a sum changes its rounding."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)


def executed(config: RunConfig, output: Path) -> Any:
    """The results of a run that was started anew."""
    for name in ("KFP_RUN_ID", "MLFLOW_TRACKING_URI", "UNTRIGGER_ARTIFACT_LOCATION"):
        os.environ.pop(name, None)
    with local_run(config, RunOptions(output)) as run:
        return run.execute()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two references, trained and scanned by the pipeline."""
    output = tmp_path_factory.mktemp("runs") / "references"
    recipe = references_config("tiny", {"count": 2}).record() | {"data": SCAN["data"], "scan": QUICK}
    found = executed(ReferencesRunConfig.of({**recipe, "references_per_task": 1}), output)
    assert found.count == 2 and found.address is None
    return output / "references"


def test_references_are_those_that_the_command_trains_and_hold_what_a_scan_finds(trained: Path, tmp_path: Path) -> None:
    config = references_config("tiny", {"count": 2, "data": SCAN["data"]})
    training = read_split("digits", config.data, seed=derived_seed(0, "split")).training
    assert train_references(tmp_path, ReferencesConfig.of(config.record()), training) == 2
    assert Recipe.load(trained) == Recipe.load(tmp_path)
    for place in reference_places(tmp_path):
        file = f"{place.name}/classifier.safetensors"
        assert (trained / file).read_bytes() == (tmp_path / file).read_bytes()
        (kept,) = (trained / place.name / "scans").iterdir()
        assert (kept / "measured.json").exists()
