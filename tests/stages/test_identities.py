"""The table of stages, and whatever has to name them without reading it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from untrigger import __version__
from untrigger.reports.endings import ENDINGS
from untrigger.stages.identities import STAGES
from untrigger.tracking.records import LAST_STAGES

ROOT = Path(__file__).parents[2]
TARGETS = {identity.target or identity.task for identity in STAGES.values()}
SERVERS = {"mlflow-server", "seaweedfs"}


def test_the_dockerfile_ends_in_one_target_for_each_image_of_a_stage() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    built_upon = set(re.findall(r"^FROM (\S+) AS|--from=(\S+?) |from=(\S+?),", text, re.MULTILINE))
    assert targets - {name for names in built_upon for name in names} == TARGETS | SERVERS


def test_no_target_has_an_instruction_so_that_no_builder_takes_it_and_its_labels_from_a_cache() -> None:
    stages = re.split(r"^FROM ", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    instructions = {
        lines[0].split()[-1]: [line for line in lines[1:] if line and line[0] != "#"]
        for lines in (stage.splitlines() for stage in stages)
    }
    assert {name for name in TARGETS | SERVERS if instructions[name]} == set()


def test_all_of_them_are_built_unless_targets_are_named() -> None:
    listed = re.search(r'targets="([^"]+)"', (ROOT / "docker/build.sh").read_text())
    assert listed is not None and sorted(listed[1].split()) == sorted(TARGETS | SERVERS)


def test_every_stage_has_one_component_and_does_its_work_in_one_module() -> None:
    assert {path.parent.name for path in (ROOT / "components").glob("*/component.py")} == STAGES.keys()
    sources = [path.read_text() for path in (ROOT / "untrigger/stages").glob("*.py")]
    worked = [name for text in sources for name in re.findall(r'^@stage\("(\w+)"', text, re.MULTILINE)]
    assert sorted(worked) == sorted(STAGES)


@pytest.mark.slow
def test_no_stage_needs_what_shows_tables_in_a_terminal() -> None:
    modules = [f"untrigger.stages.{path.stem}" for path in sorted((ROOT / "untrigger/stages").glob("*.py"))]
    program = "import importlib, sys; sys.modules['rich'] = None; [*map(importlib.import_module, sys.argv[1:])]"
    done = subprocess.run([sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tracking_knows_the_stages_that_end_a_pipeline_by_their_titles() -> None:
    assert set(LAST_STAGES) == {STAGES[ending.stage].title for ending in ENDINGS.values()}


def test_names_titles_and_tasks_tell_stages_apart() -> None:
    for names in ([s.title for s in STAGES.values()], [s.task for s in STAGES.values()]):
        assert len(set(names)) == len(STAGES)
    assert STAGES["pixel_sgd"].image == f"untrigger/pixel-sgd:{__version__}"
    assert STAGES["ideal_retraining"].image == STAGES["retraining"].image
