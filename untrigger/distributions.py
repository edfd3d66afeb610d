"""The distribution of triggers that a run found, kept whole: its staircase, and the judge of its sets {F >= beta}.

It lies in the report of a run, so that whoever has the report, from wherever, can sample it and measure it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.classifiers import load_classifier
from untrigger.errors import UserError
from untrigger.judge import Judge
from untrigger.staircase import Staircase, load_staircase
from untrigger.storage.files import sha256

DISTRIBUTION = "distribution"
"""Its folder in a report."""

_SUSPECT, _STAIRCASE, _JUDGED = "suspect", "staircase", "judged.safetensors"


def save_distribution(report: Path, *, suspect: Path, staircase: Path, images: Tensor, positions: Tensor) -> None:
    """Keep in `report` the folders of the suspect classifier and of the staircase, and what its judge looks at.

    images: uint8 (n, 3, h, w); positions: int64 (n, 2), as `judge.images_of_judge` gives them.
    """
    folder = report / DISTRIBUTION
    shutil.copytree(suspect, folder / _SUSPECT)
    shutil.copytree(staircase, folder / _STAIRCASE)
    write_tensors(folder / _JUDGED, {"images": images.contiguous(), "positions": positions})


@dataclass(frozen=True)
class Distribution:
    """The staircase that a run found, and the judge by which it was measured; origin stands for what that looks at."""

    staircase: Staircase
    judge: Judge
    origin: str


def load_distribution(report: Path, target_class: int, size: tuple[int, int], device: torch.device) -> Distribution:
    """Read what `save_distribution` kept in `report`; size: height and width of the triggers.

    UserError when it is missing or damaged, or not of such a target class and triggers.
    """
    folder = report / DISTRIBUTION
    if not folder.exists():
        raise UserError(
            f"{report} does not hold the distribution of its triggers, which earlier versions left out: run it again, "
            "with --overwrite"
        )
    suspect, judged = load_classifier(folder / _SUSPECT, device), read_tensors(folder / _JUDGED)
    staircase = load_staircase(folder / _STAIRCASE, device)
    sizes = {generator.size for generator in staircase.generators}
    if sizes != {size} or target_class >= suspect.classes or not _fit(judged, size):
        raise UserError(f"{folder} is damaged, or does not belong to the results beside it: fetch it, or run it, again")
    judge = Judge(suspect, judged["images"].to(device), judged["positions"], target_class, size)
    origin = " ".join(sha256(file) for file in (folder / _SUSPECT / "classifier.safetensors", folder / _JUDGED))
    return Distribution(staircase, judge, f"{origin} {target_class}")


def _fit(judged: Mapping[str, Tensor], size: tuple[int, int]) -> bool:
    """Whether these are images, and positions on them where patches of that size find room."""
    if judged.keys() != {"images", "positions"}:
        return False
    images, positions = judged["images"], judged["positions"]
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        return False
    if positions.dtype != torch.int64 or positions.shape != (len(images), 2):
        return False
    room = torch.tensor(images.shape[2:]) - torch.tensor(size)
    return bool(((positions >= 0) & (positions <= room)).all())
