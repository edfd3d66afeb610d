"""Verdicts: each scanned model judged by its rank among the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from untrigger.datasets.images import ImageData, load_images
from untrigger.errors import UserError
from untrigger.model_scans import ModelScan, ScannedModel, judge_scan, write_scan, write_scans
from untrigger.references import ScannedReference, check_alike
from untrigger.reports.scans import ModelResult, ScanReport, ScanResult, Unscanned
from untrigger.settings.base import Stored
from untrigger.settings.scans import ScanConfig
from untrigger.settings.tracked import TrackedAs
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage
from untrigger.tracking.records import TrackedRun

MODELS = "models"
"""The folder below the report with one for each model."""


@stage("verdicts")
def run(
    log: Log,
    *,
    model_scans: InFolders,
    reference_scans: InFolders,
    defender_data: InFolder,
    report: OutFolder,
    config: dict[str, Any],
    tracking: TrackedAs,
) -> None:
    """Write what `untrigger scan` writes: `scans.json`, `report.html`, and a folder per model below `models/`.

    Models from a store are called as they were before they were put there. One that could not be scanned, or is of
    another architecture or class count than a reference, keeps no other from its verdict.

    Raises UserError when there is none that could be judged, unless other parts of the scan have verdicts of theirs.
    """
    settings, data = ScanConfig.of(config), load_images(defender_data)
    references = [ScannedReference.read(file) for file in _files(reference_scans, ScannedReference)]
    unscanned = [Unscanned.read(file) for file in _files(model_scans, Unscanned)]
    failures = {tracking.names.get(each.model, each.model): each.why for each in unscanned}
    results = []
    with log.run() as tracked:
        for file in _files(model_scans, ScannedModel):
            found = _called(ModelScan.load(file.parent), tracking)
            try:
                result = _judged(found, references, settings, data)
            except UserError as error:
                failures[found.model.model] = str(error)
                continue
            write_scan(report / MODELS, result, found.scan, data)
            results.append(result)
            with log.run(f"scan of {result.model}") as scanned:
                _track(scanned, result)
        if failures and not results and tracking.sweep is None:
            raise UserError("; ".join(f"{name} was not scanned: {why}" for name, why in failures.items()))
        scans = ScanReport(results=tuple(results), failures=failures)
        write_scans(report, scans, report / MODELS)
        _track_all(log.summary_run(tracked), report, scans)


def _called(found: ModelScan, tracking: TrackedAs) -> ModelScan:
    """By the name that the model had before it was put into a store."""
    name = tracking.names.get(found.model.model, found.model.model)
    return replace(found, model=found.model.model_copy(update={"model": name}))


def _judged(
    found: ModelScan, references: Sequence[ScannedReference], settings: ScanConfig, data: ImageData
) -> ScanResult:
    for each in references:
        check_alike(each.name, each.network, found.model.network)
    return judge_scan(found, [each.measured for each in references], settings, data.class_names)


def _files(parts: InFolders, kind: type[Stored]) -> list[Path]:
    """The files of this kind that the tasks of a loop left, in their order."""
    return [file for part in parts for file in sorted(part.glob(f"*/{kind.FILE}"))]


def _track(run: TrackedRun, result: ScanResult) -> None:
    """What scans are compared by."""
    told = {*ModelResult.model_fields, "verdict", "target_class", "target_name", "size", "search"} - {"dataset"}
    parameters = {name: value for name in sorted(told) if (value := getattr(result, name)) is not None}
    run.parameters({**parameters, "doubtful": bool(result.doubts)})
    numbers = {name: getattr(result, name) for name in ("p_value", "lead", "references", "accuracy", "seconds")}
    numbers |= {f"statistic.{search}": value for search, value in result.statistics.items()}
    run.metrics({name: value for name, value in numbers.items() if value is not None})


def _track_all(run: TrackedRun, report: Path, scans: ScanReport) -> None:
    """The counts of the verdicts and the report; of a single model what is told of it, as well."""
    verdicts = [result.verdict for result in scans.results]
    counts = {verdict.replace(" ", "_"): verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    run.metrics({**counts, "not_scanned": len(scans.failures)})
    if len(scans.results) == 1:
        _track(run, scans.results[0])
    if scans.results:
        run.files(report / "report.html")
        run.files(report / ScanReport.FILE)
