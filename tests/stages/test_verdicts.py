"""The stage that judges scanned models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from untrigger.datasets.images import ImageData, save_images
from untrigger.reports.scans import ScanReport, Unscanned
from untrigger.stages import verdicts

PART = {"sweep": {"id": "whole", "name": "all", "number": 1, "count": 2}}


def judge_nothing(data: ImageData, folder: Path, tracking: dict[str, Any]) -> Path:
    """Run the stage where no model could be scanned; where it leaves its report."""
    Unscanned(model="odd.pth", why="it holds no network").save(folder / "scans" / "odd")
    save_images(data, folder / "data")
    verdicts.run(
        model_scans=[folder / "scans"],
        reference_scans=[],
        defender_data=folder / "data",
        report=folder / "report",
        config={"dataset": "digits"},
        tracking=tracking,
    )
    return folder / "report"


def test_a_scan_without_a_verdict_fails_and_says_why(
    tiny_images: ImageData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        judge_nothing(tiny_images, tmp_path, {})
    assert "odd.pth was not scanned: it holds no network" in capsys.readouterr().out


def test_a_part_of_a_scan_leaves_its_failures_to_the_whole(tiny_images: ImageData, tmp_path: Path) -> None:
    found = ScanReport.load(judge_nothing(tiny_images, tmp_path, PART))
    assert found.results == () and found.failures == {"odd.pth": "it holds no network"}
