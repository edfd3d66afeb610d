"""The scan of a model of others in its parts: opened and searched, judged among references, written down.

A command does all of it in one go, a pipeline each part in a stage of its own; what is found is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.checkpoints.models import DOUBT, RECOGNISED, OpenedModel, open_model
from untrigger.datasets.images import ImageData
from untrigger.measurements import MASK, Measured
from untrigger.neural_cleanse import Masks
from untrigger.pictures import write_picture
from untrigger.references import NetworkKind
from untrigger.reports.pages import Picture
from untrigger.reports.scans import (
    ModelResult,
    ScanReport,
    ScanResult,
    ranking,
    scan_result,
    searched,
    shown,
    write_scan_report,
)
from untrigger.scanning import OnWork, Scan, scan_classifier
from untrigger.seeding import derived_rng
from untrigger.settings.scans import ScanConfig
from untrigger.triggers import stamp
from untrigger.verdicts import verdict_on

SHOWN_IMAGES = 8
"""Images that are shown with what was found."""

SHOWN_CLASSES = 20
"""Classes whose patches are drawn, those that stand out most."""

FAR_OUT = 3.0
"""Quartile ranges beyond the quartiles: Tukey's outer fences ("Exploratory Data Analysis", 1977, chapter 2)."""

FEWEST = 4
"""References whose quartiles tell something."""

LEAST_FENCE = 0.01
"""Accuracies that are no further apart tell nothing of a recipe, however alike the references are."""

FOUND = "found.safetensors"
"""All patches and masks of a scan."""


class ScannedModel(ModelResult):
    """What a scan measured of a model, before anything is said of it."""

    FILE = "model.json"

    network: NetworkKind
    measured: Measured


@dataclass(frozen=True)
class ModelScan:
    """What was measured of a model, and what was found in it."""

    model: ScannedModel
    scan: Scan

    def save(self, folder: Path) -> None:
        """Write it into `folder`."""
        self.model.save(folder)
        _write_found(folder, self.scan)

    @classmethod
    def load(cls, folder: Path) -> ModelScan:
        """Read what `save` wrote."""
        model, tensors = ScannedModel.load(folder), read_tensors(folder / FOUND)
        arms = [arm for arm in model.measured.arms if arm.search != MASK]
        patches = {(arm.search, arm.target_class): tensors[_name(arm.search, arm.target_class)] for arm in arms}
        masks = Masks(tensors["masks"], tensors["patterns"]) if "masks" in tensors else None
        return cls(model, Scan(model.measured, patches, masks))


def open_suspect(name: str, config: ScanConfig, data: ImageData, say: Callable[[str], None]) -> OpenedModel:
    """Open the model `name`, and tell `say` what it was taken for."""
    opened = open_model(name, config.classifier, data, rng=derived_rng(config.seed, "normalisation"))
    if opened.reading:
        say(f"{name} is taken as {opened.reading}")
    return opened


def scan_suspect(opened: OpenedModel, config: ScanConfig, data: ImageData, on_work: OnWork | None = None) -> ModelScan:
    """Search for whatever opens the model."""
    scan = scan_classifier(opened.classifier, data, config.scan, rng=derived_rng(config.seed, "scan"), on_work=on_work)
    model = ScannedModel(
        **opened.identity(),
        dataset=config.dataset,
        network=NetworkKind.of_classifier(opened.classifier),
        measured=scan.measured,
    )
    return ModelScan(model, scan)


def judge_scan(
    found: ModelScan, references: Sequence[Measured], config: ScanConfig, class_names: Sequence[str]
) -> ScanResult:
    """The verdict on a model by what the same scan found in clean references; without any a ranking only."""
    others = [measured.statistics() for measured in references]
    told = {name: getattr(found.model, name) for name in ModelResult.model_fields}
    return scan_result(
        found.scan.measured,
        verdict_on(found.scan.measured.statistics(), others, config.level),
        class_names,
        **told,
        doubts=tuple(doubts(found.scan.measured, references, config.dataset)),
        config=config.record(),
    )


def doubts(suspect: Measured, references: Sequence[Measured], dataset: str) -> list[str]:
    """Why the rate of false alarms may not be the stated one: by accuracies that models trained alike do not have."""
    found, accuracy = [], suspect.accuracy
    if accuracy is not None and accuracy < RECOGNISED:
        found.append(f"it recognises {100 * accuracy:.1f} % of {dataset} only: {DOUBT}")
    others = [each.accuracy for each in references if each.accuracy is not None]
    low, high = _outer_fences(others) if len(others) >= FEWEST else (0.0, 1.0)
    if accuracy is not None and not low <= accuracy <= high:
        found.append(
            f"it recognises {100 * accuracy:.1f} % of {dataset}, and models trained as its references were "
            f"{100 * max(low, 0.0):.1f} to {100 * min(high, 1.0):.1f} %: train references by its recipe"
        )
    return found


def _outer_fences(accuracies: Sequence[float]) -> tuple[float, float]:
    low, high = (float(quartile) for quartile in np.quantile(accuracies, (0.25, 0.75)))
    fence = max(FAR_OUT * (high - low), LEAST_FENCE)
    return low - fence, high + fence


def write_scan(folders: Path, result: ScanResult, scan: Scan, data: ImageData) -> None:
    """Write what was found in one model, and the verdict, into a folder of its own below `folders`."""
    folder = folders / result.folder
    result.save(folder)
    _write_found(folder, scan)
    _write_trigger(folder, result, scan)
    _draw(folder, result, scan, data)


def write_scans(output: Path, report: ScanReport, folders: Path) -> None:
    """Write the verdicts and the page over all models into `output`, after `write_scan` of each into `folders`."""
    report.save(output)
    if report.results:
        write_scan_report(output / "report.html", report, [_pictures(folders / each.folder) for each in report.results])


def _leading(result: ScanResult) -> tuple[str, int]:
    """The search and the class that are shown: those of the verdict, else what stands out most."""
    if result.search is None or result.target_class is None:
        return result.measured.leading()
    return result.search, result.target_class


def _name(search: str, target: int) -> str:
    """What a patch is called among the tensors."""
    return f"patch-{search}-class-{target}"


def _write_found(folder: Path, scan: Scan) -> None:
    tensors = {_name(search, target): patch for (search, target), patch in scan.patches.items()}
    if scan.masks is not None:
        tensors |= {"masks": scan.masks.masks, "patterns": scan.masks.patterns}
    write_tensors(folder / FOUND, tensors)


def _write_trigger(folder: Path, result: ScanResult, scan: Scan) -> None:
    """The leading patch as a trigger that `run --trigger` and `defend` take."""
    search, target = _leading(result)
    for name in ("trigger.safetensors", "trigger.png"):
        (folder / name).unlink(missing_ok=True)
    if search != MASK:
        patch = scan.patches[search, target]
        write_tensors(folder / "trigger.safetensors", {"trigger": patch})
        write_picture(folder / "trigger.png", patch)


def _draw(folder: Path, result: ScanResult, scan: Scan, data: ImageData) -> None:
    from untrigger.reports.figures import draw_attack, draw_found

    search, target = _leading(result)
    others = (data.labels != target).nonzero().squeeze(1)[:SHOWN_IMAGES]
    pictures = data.images[others].cpu()
    images, found = pictures.float() / 255, _found(scan, search, target)
    if search == MASK and scan.masks is not None:
        under = scan.masks.applied(_number(scan, target), pictures)
    else:
        under = stamp(images, found[None], derived_rng(0, "picture"))
    draw_attack(images, under, found, folder / "attack.png")
    rows, titles = {}, []
    for number, arms in ranking(result)[:SHOWN_CLASSES]:
        rows[data.class_names[number]] = [_found(scan, each, number) for each in arms]
        titles.append([f"{searched(each)}: {shown(arm)}" for each, arm in arms.items()])
    draw_found(rows, titles, folder / "patches.png")


def _number(scan: Scan, target: int) -> int:
    """Which of the masks is that for the class."""
    return [arm.target_class for arm in scan.measured.by(MASK)].index(target)


def _found(scan: Scan, search: str, target: int) -> Tensor:
    """The patch, float (3, s, s), or what the mask shows of the pattern, float (3, h, w)."""
    if search != MASK or scan.masks is None:
        return scan.patches[search, target]
    return scan.masks.shown[_number(scan, target)]


def _pictures(folder: Path) -> dict[str, Picture]:
    return {
        "attack": Picture(
            folder / "attack.png", "Images of other classes, the same with what was found, and it by itself"
        ),
        "patches": Picture(
            folder / "patches.png",
            "What was found for the classes that stand out most: the best patch of each size, with the share of images "
            "that it sends there, and mask times pattern, with the norm of the mask",
        ),
    }
