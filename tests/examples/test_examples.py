"""The examples run as they stand, from any folder, and do what they say."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.files import picture, write_shard
from untrigger.settings.methods import ClassifierSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str, folder: Path, *words: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def success(line: str) -> float:
    found = re.search(r"attack success ([\d.]+)%", line)
    assert found is not None, line
    return float(found[1])


@pytest.mark.pipeline
def test_the_defence_closes_what_the_attack_opened(tmp_path: Path) -> None:
    rates = {line[:14].strip(): success(line) for line in output_of("defend.py", tmp_path).splitlines()}
    assert rates["backdoored"] > 50
    assert rates["ensemble"] < 10
    assert rates["ensemble"] < rates["fine-tuned"]


@pytest.mark.pipeline
def test_an_own_network_is_attacked_and_its_trigger_found(tmp_path: Path) -> None:
    planted, found = map(success, output_of("own_network.py", tmp_path).splitlines())
    assert planted > 80
    assert found > 50


@pytest.mark.pipeline
def test_an_own_defence_closes_more_than_plain_fine_tuning(tmp_path: Path) -> None:
    rates = {line[:12].strip(): success(line) for line in output_of("own_defence.py", tmp_path).splitlines()}
    assert rates["backdoored"] > 80
    assert rates["shaken"] < rates["fine-tuned"]


@pytest.mark.pipeline
def test_an_own_attack_is_planted(tmp_path: Path) -> None:
    assert success(output_of("own_attack.py", tmp_path)) > 90


def test_a_network_of_others_is_opened_by_the_names_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    build = importlib.import_module("their_network").build
    torch.save(build(ClassifierSettings(), 10).state_dict(), tmp_path / "model.pth")
    pictures = [picture(20 * label, (32, 32)) for label in range(10)]
    write_shard(tmp_path / "data" / "a.parquet", 16 * pictures, 16 * list(range(10)))
    Image.new("RGB", (32, 32), (0, 40, 0)).save(tmp_path / "trojan_wm.png")
    told = output_of("their_triggers.py", tmp_path, "model.pth", "parquet:data", tmp_path, "trojan_wm_2")
    assert told.startswith("clean accuracy ") and 0 <= success(told) <= 100


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_short(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) < 60
    assert not any("argparse" in line for line in lines)
