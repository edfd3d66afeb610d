"""The documentation: its picture is of today's pipeline, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.dag import PICTURE, PIPELINE, Dag, picture

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_the_picture_is_drawn_from_the_compiled_pipeline_as_it_is() -> None:
    assert PICTURE.read_text() == picture(next(yaml.safe_load_all(PIPELINE.read_text()))), "run: python docs/dag.py"


def test_the_picture_shows_every_stage_and_which_of_them_fan_out() -> None:
    dag = Dag(next(yaml.safe_load_all(PIPELINE.read_text())))
    stages = {folder.parent.name.replace("_", "-") for folder in (ROOT / "components").glob("*/component.py")}
    of_models = {"reference-training", "gathered-references", "reference-scan", "model-scan", "verdicts", "defence"}
    of_grids = {"grid-planting", "grid-cells", "gathered-cells", "grid-report"}
    assert set(dag.waits) == stages - {"aggregation"} - of_models - of_grids
    assert len(dag.looped) == 2
    assert dag.direct("evaluation") >= dag.looped & dag.waits["evaluation"] - {"generator-training"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in linked if not (page.parent / link).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
