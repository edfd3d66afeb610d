"""The report of a sweep, brought together from the reports of its triggers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from untrigger.reports import figures
from untrigger.reports.pages import Picture, write_sweep_report
from untrigger.reports.results import Results
from untrigger.reports.sweep import SweepResults, folder_name, panel_triggers, sweep_results
from untrigger.reports.tsne import Embedding
from untrigger.settings.runs import SweepConfig


def bring_together(reports: Sequence[Path], folder: Path, settings: SweepConfig) -> SweepResults:
    """Write `sweep.json`, `report.html`, `figures/*.png`, and the report of each trigger below `triggers/`.

    reports: the folder with the report of each trigger. Returns what the sweep found.
    """
    found_per_report = {report: Results.load(report) for report in reports}
    found = sweep_results(settings, list(found_per_report.values()))
    folders = {results.trigger.name: report for report, results in found_per_report.items()}
    for name, report in folders.items():
        shutil.copytree(report, folder / "triggers" / folder_name(name))
    found.save(folder)
    write_sweep_report(folder / "report.html", found, _draw(folder / "figures", settings, found, folders))
    return found


def _draw(folder: Path, settings: SweepConfig, found: SweepResults, folders: dict[str, Path]) -> dict[str, Picture]:
    figures.draw_sweep(found.triggers, folder / "sweep.png")
    rows = {row.name: row for row in found.triggers}
    panels = [(rows[name], Embedding.load(folders[name])) for name in panel_triggers(settings, found)]
    figures.draw_panels(panels, sorted(settings.betas), folder / "panels.png")
    return {
        "sweep": Picture(
            folder / "sweep.png",
            "Attack success rate per trigger, sorted by what is left after retraining with single reversed triggers: "
            "mean over the seeds, and their standard deviation as a bar",
        ),
        "panels": Picture(
            folder / "panels.png",
            "The original and the strongest reversed trigger with their attack success before the defence, and the "
            "t-SNE of the trigger distribution (square: reversed, cross: original)",
        ),
    }
