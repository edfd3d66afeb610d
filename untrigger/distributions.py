"""The distribution of triggers that a run found, kept whole: its staircase, and the judge of its sets {F >= beta}.

It lies in the report of a run, so that whoever has the report, from wherever, can sample it and measure it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.classifiers import load_classifier
from untrigger.errors import UserError
from untrigger.judge import Judge
from untrigger.staircase import Staircase, load_staircase

DISTRIBUTION = "distribution"
"""Its folder in a report."""

_SUSPECT, _STAIRCASE, _JUDGED = "suspect", "staircase", "judged.safetensors"


def save_distribution(report: Path, *, suspect: Path, staircase: Path, images: Tensor, positions: Tensor) -> None:
    """Keep in `report` the folders of the suspect classifier and of the staircase, and what its judge looks at.

    images: uint8 (n, 3, h, w); positions: int64 (n, 2), as `judge.judged_of_run` gives them.
    """
    folder = report / DISTRIBUTION
    shutil.copytree(suspect, folder / _SUSPECT)
    shutil.copytree(staircase, folder / _STAIRCASE)
    write_tensors(folder / _JUDGED, {"images": images.contiguous(), "positions": positions})


def load_judge(report: Path, target_class: int, size: tuple[int, int], device: torch.device) -> Judge:
    """The judge by which the run measured its stairs; size: height and width of its triggers."""
    folder = _folder(report)
    suspect, judged = load_classifier(folder / _SUSPECT, device), read_tensors(folder / _JUDGED)
    return Judge(suspect, judged["images"].to(device), judged["positions"], target_class, size)


def load_distribution(report: Path, device: torch.device) -> Staircase:
    """The staircase that the run found."""
    return load_staircase(_folder(report) / _STAIRCASE, device)


def _folder(report: Path) -> Path:
    folder = report / DISTRIBUTION
    if not folder.exists():
        raise UserError(f"{report} does not hold the distribution of its triggers: it was made by an earlier version")
    return folder
