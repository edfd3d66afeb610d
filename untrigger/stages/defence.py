"""Defence: a model of others, closed against what a scan found in it."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from untrigger.checkpoints.models import open_model
from untrigger.datasets.images import load_images
from untrigger.model_defences import Closing, close_model
from untrigger.networks.devices import device
from untrigger.references import references_folder
from untrigger.reports.defences import DefenceResult
from untrigger.reports.scans import ScanReport
from untrigger.seeding import derived_rng
from untrigger.settings.defences import DefendConfig
from untrigger.settings.tracked import TrackedAs
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelName, ReferencesName
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.tracking.records import TrackedRun

FOLDER = "defence"
"""The folder below the report with pictures, triggers and the retrained model."""


@stage("defence")
def run(
    log: Log,
    *,
    defender_data: InFolder,
    evaluation_data: InFolder,
    scans: InFolder,
    retrained: OutFolder,
    report: OutFolder,
    model: ModelName,
    references: ReferencesName,
    config: dict[str, Any],
    tracking: TrackedAs,
    snapshots: Snapshots,
) -> None:
    """Write what `untrigger defend` writes, and the retrained model by itself, with the result beside it.

    scans: what the scan said of the model, of none where class and patch size are given.
    """
    began, settings = time.perf_counter(), DefendConfig.of(config)
    data, heldout = (load_images(folder).to(device()) for folder in (defender_data, evaluation_data))
    with log.run() as tracked:
        opened = open_model(model, settings.classifier, data, rng=derived_rng(settings.seed, "normalisation"))
        opened = replace(opened, name=tracking.names.get(model, model))
        scanned = next(iter(ScanReport.load(scans).results), None)
        folder = references_folder(references) if references else None
        closing = Closing(opened, settings, data, heldout, scanned, folder, report / FOLDER, began, within=True)
        say = partial(log.reporter.say, "warning")
        result = close_model(closing, say=say, on_work=log.reporter.step, snapshot=snapshots.of)
        result.save(report)
        shutil.copyfile(report / FOLDER / "report.html", report / "report.html")
        result.save(retrained)
        if result.written is not None:
            copy = shutil.copytree if (report / FOLDER / result.written).is_dir() else shutil.copyfile
            copy(report / FOLDER / result.written, retrained / result.written)
        _track(log.summary_run(tracked), report, result)


def _track(run: TrackedRun, report: Path, result: DefenceResult) -> None:
    told = ("sha256", "architecture", "outcome", "target_name", "size")
    run.parameters({name: value for name in told if (value := getattr(result, name)) is not None})
    for name, opened in (("before", result.before), ("after", result.after)):
        run.metrics({f"{name}.{rate}": value for rate, value in opened.model_dump().items()})
    run.metrics({"rounds": len(result.rounds)})
    run.files(report / "report.html")
    run.files(report / DefenceResult.FILE)
