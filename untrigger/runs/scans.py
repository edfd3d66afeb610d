"""Scans of models in one go, from their names to verdicts, files and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from untrigger.checkpoints.models import models_in
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.model_scans import judge_scan, open_suspect, scan_suspect, write_scan, write_scans
from untrigger.networks.devices import device
from untrigger.references import scan_references
from untrigger.reports.scans import ScanReport, ScanResult
from untrigger.runs.output_folder import OutputFolder
from untrigger.scanning import OnWork
from untrigger.seeding import derived_seed
from untrigger.settings.scans import ScanConfig, SuspectConfig


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
) -> ScanReport:
    """Scan each of the models and write what was found below `output`: a folder each, and one report.

    references: a folder that `train_references` filled; without it there is no verdict, only a ranking. Of several
    models one that cannot be scanned keeps no other from its verdict. Raises UserError when the only one cannot be, or
    when another command is at work in the folder.
    """
    models = models_in(names, say)
    results: list[ScanResult] = []
    failures: dict[str, str] = {}
    with OutputFolder(output).locked():
        scanning = Scanning(config, defender_images(config), references, output, say, on_work)
        for name in models:
            try:
                results.append(_scan_model(name, scanning))
            except UserError as error:
                if len(models) == 1:
                    raise
                say(f"{name} was not scanned: {error}")
                failures[name] = str(error)
            report = ScanReport(results=tuple(results), failures=failures)
            write_scans(output, report, output)
    return report


def defender_images(config: SuspectConfig) -> ImageData:
    """The defender's part of the dataset, as a run splits it."""
    split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
    return split.defender.to(device())


def _scan_model(name: str, scanning: Scanning) -> ScanResult:
    config, data, on_work = scanning.config, scanning.data, scanning.on_work
    suspect = open_suspect(name, config, data, scanning.say)
    references = []
    if scanning.references is not None:
        references = scan_references(scanning.references, suspect.classifier, data, config, on_work)
    found = scan_suspect(suspect, config, data, on_work)
    result = judge_scan(found, references, config, data.class_names)
    write_scan(scanning.output, result, found.scan, data)
    return result
