"""Scans of models, from their names to verdicts, files and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from untrigger.artifacts import write_tensors
from untrigger.checkpoints.models import DOUBT, RECOGNISED, models_in, open_model
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import read_split
from untrigger.metrics import predict
from untrigger.networks.devices import device
from untrigger.pictures import write_picture
from untrigger.references import scan_references
from untrigger.reports.pages import Picture
from untrigger.reports.scans import ScanResult, ranking, scan_result, searched, shown, write_scan_report
from untrigger.scanning import MASK, OnWork, Scan, scan_classifier
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.scans import ScanConfig, SuspectConfig
from untrigger.triggers import stamp
from untrigger.verdicts import verdict_on

SHOWN_IMAGES = 8
"""Images that are shown with what was found."""

SHOWN_CLASSES = 20
"""Classes whose patches are drawn, those that stand out most."""


@dataclass(frozen=True)
class Scanning:
    """What all models of one command share: the settings, the defender's images, and who is told."""

    config: ScanConfig
    data: ImageData
    references: Path | None
    output: Path
    say: Callable[[str], None]
    on_work: OnWork | None = None


def scan_models(
    names: Sequence[str],
    config: ScanConfig,
    references: Path | None,
    output: Path,
    *,
    say: Callable[[str], None],
    on_work: OnWork | None = None,
) -> list[ScanResult]:
    """Scan each of the models and write what was found below `output`: a folder each, and one report.

    references: a folder that `train_references` filled; without it there is no verdict, only a ranking.
    """
    models = models_in(names)
    scanning = Scanning(config, defender_images(config), references, output, say, on_work)
    found = [_scan_model(name, scanning) for name in models]
    results = [result for result, _ in found]
    write_scan_report(output / "report.html", results, [_pictures(folder) for _, folder in found])
    return results


def defender_images(config: SuspectConfig) -> ImageData:
    """The defender's part of the dataset, as a run splits it."""
    split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
    return split.defender.to(device())


def _scan_model(name: str, scanning: Scanning) -> tuple[ScanResult, Path]:
    config, data = scanning.config, scanning.data
    opened = open_model(name, config.classifier, data, rng=derived_rng(config.seed, "normalisation"))
    if opened.reading:
        scanning.say(f"{name} is taken as {opened.reading}")
    accuracy = (predict(opened.classifier, data.images).argmax(1) == data.labels).double().mean().item()
    if accuracy < RECOGNISED:
        scanning.say(f"{name} recognises {100 * accuracy:.1f} % of {config.dataset} only: {DOUBT}")
    reference_scans = []
    if scanning.references is not None:
        reference_scans = scan_references(scanning.references, opened.classifier, data, config, scanning.on_work)
    scan = scan_classifier(
        opened.classifier, data, config.scan, rng=derived_rng(config.seed, "scan"), on_work=scanning.on_work
    )
    others = [measured.statistics() for measured in reference_scans]
    result = scan_result(
        scan.measured,
        verdict_on(scan.measured.statistics(), others, config.level),
        data.class_names,
        **opened.identity(),
        dataset=config.dataset,
        accuracy=accuracy,
        config=config.record(),
    )
    folder = scanning.output / f"{Path(name).stem}-{opened.sha256[:8]}"
    result.save(folder)
    _write_triggers(folder, result, scan)
    _draw(folder, result, scan, data)
    return result, folder


def _leading(result: ScanResult) -> tuple[str, int]:
    """The search and the class that are shown: those of the verdict, else what stands out most."""
    if result.search is None or result.target_class is None:
        return result.measured.leading()
    return result.search, result.target_class


def _write_triggers(folder: Path, result: ScanResult, scan: Scan) -> None:
    """All patches and masks, and the leading patch as a trigger that `run --trigger` and `defend` take."""
    tensors = {f"patch-{search}-class-{target}": patch for (search, target), patch in scan.patches.items()}
    if scan.masks is not None:
        tensors |= {"masks": scan.masks.masks, "patterns": scan.masks.patterns}
    write_tensors(folder / "found.safetensors", tensors)
    search, target = _leading(result)
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
    number = _number(scan, target)
    return scan.masks.masks[number] * scan.masks.patterns[number]


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
