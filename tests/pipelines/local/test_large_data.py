"""Many classes and large pictures go through every stage, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.support import strided_network
from tests.support.configs import SMALL, STEADY, tiny_config
from tests.support.strided_network import STRIDED

pytestmark = pytest.mark.pipeline

UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))

REPOSITORY = str(Path(__file__).parents[3])

MEMORY_MB = 8192
"""What no stage may reach."""


def class_folders(folder: Path, classes: int, pictures: int, side: int) -> str:
    """Noise around a colour for each class."""
    rng = np.random.default_rng(0)
    for number, colour in enumerate(rng.integers(40, 216, size=(classes, 3))):
        place = folder / f"class-{number:03d}"
        place.mkdir(parents=True)
        for index in range(pictures):
            noise = rng.integers(-30, 31, size=(side, side, 3))
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(place / f"{index}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize(
    ("classes", "pictures", "side", "defender_share", "architecture"),
    [(100, 8, 32, 0.5, "small_resnet"), (10, 100, 224, 0.04, STRIDED)],
)
def test_every_stage_takes_them_with_a_colour_trigger_below_eight_gigabytes(
    tmp_path: Path, classes: int, pictures: int, side: int, defender_share: float, architecture: str
) -> None:
    changes: dict[str, Any] = {
        **SMALL,
        **STEADY,
        "dataset": class_folders(tmp_path / "pictures", classes, pictures, side),
        "data": {"image_size": side, "defender_share": defender_share},
        "classifier": {**STEADY["classifier"], "architecture": architecture},
        "generator": {"batch_size": 16},
        "flow": {"steps": 2},
        "trigger": "colour:0",
        "target_class": classes - 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(tiny_config(**changes).record()))
    words = [UNTRIGGER, "run", "--config", str(tmp_path / "config.json"), "--output", str(tmp_path / "run")]
    environment = {**os.environ, "UNTRIGGER_PLUGINS": strided_network.__name__, "PYTHONPATH": REPOSITORY}
    ended = subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    report = (tmp_path / "run" / "report.html").read_text()
    assert report.startswith("<!doctype html>")
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    peaks = {run.info.run_name: run.data.metrics.get("peak_memory_mb") for run in runs}
    told = {name: peak for name, peak in peaks.items() if peak is not None}
    assert len(told) >= 8 and max(told.values()) < MEMORY_MB, told
