"""The guard of the golden numbers: results of a kept configuration change only with the version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.golden import REPOSITORY, TOLERANCE, Golden


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    """Numbers of version 1.0, written down."""
    (tmp_path / "CHANGELOG.md").write_text("## [1.1]\n\n## [1.0]\n")
    golden = Golden(refresh=True, folder=tmp_path, version="1.0", changelog=tmp_path / "CHANGELOG.md")
    golden.check("run", {"loss": 0.5, "rate": 0.25})
    return golden


def test_numbers_may_differ_by_what_another_processor_makes_of_them_and_by_no_more(golden: Golden) -> None:
    compared = replace(golden, refresh=False)
    compared.check("run", {"loss": 0.5 + TOLERANCE / 2, "rate": 0.25})
    for found in ({"loss": 0.5 + 2 * TOLERANCE, "rate": 0.25}, {"loss": 0.5}, {"loss": float("nan"), "rate": 0.25}):
        with pytest.raises(AssertionError, match=r"1 of 2 golden numbers changed: (loss|rate) was 0"):
            compared.check("run", found)
    with pytest.raises(AssertionError, match=r"new: \{.other.\}"):
        compared.check("run", {"loss": 0.5, "rate": 0.25, "other": 1.0})


def test_changed_numbers_are_written_down_only_with_a_new_version_that_the_changelog_knows(golden: Golden) -> None:
    with pytest.raises(AssertionError, match=r"loss was 0.5000, is 0.7000. Raise the version 1.0 first"):
        golden.check("run", {"loss": 0.7, "rate": 0.25})
    with pytest.raises(AssertionError, match=r"says nothing of 2.0"):
        replace(golden, version="2.0").check("run", {"loss": 0.7, "rate": 0.25})
    raised = replace(golden, version="1.1")
    raised.check("run", {"loss": 0.7, "rate": 0.25})
    replace(raised, refresh=False).check("run", {"loss": 0.7, "rate": 0.25})


def test_a_new_number_needs_no_new_version(golden: Golden) -> None:
    golden.check("run", {"loss": 0.5, "rate": 0.25, "other": 1.0})
    replace(golden, refresh=False).check("run", {"loss": 0.5, "rate": 0.25, "other": 1.0})


@pytest.mark.parametrize("path", sorted(Golden().folder.glob("*.json")), ids=lambda path: path.stem)
def test_the_version_of_the_golden_numbers_stands_in_the_changelog(path: Path) -> None:
    version = json.loads(path.read_text())["version"]
    assert f"## [{version}]" in (REPOSITORY / "CHANGELOG.md").read_text()
