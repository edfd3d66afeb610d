"""Aggregation: the reports of all triggers of a sweep, brought together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from untrigger import figures
from untrigger.artifacts import read_json, read_tensors, write_json
from untrigger.report import Picture, write_sweep_report
from untrigger.settings import SweepConfig
from untrigger.stage import InFolders, Log, OutFolder, stage
from untrigger.sweep import folder_name, panel_triggers, sweep_results
from untrigger.tracking import TrackedRun


@stage("aggregation")
def run(log: Log, *, reports: InFolders, report: OutFolder, config: dict[str, Any]) -> None:
    """Write `sweep.json`, `report.html`, `figures/*.png`, and the report of each trigger below `triggers/`."""
    settings = SweepConfig.of(config)
    with log.run() as tracked:
        found_per_report = {folder: read_json(folder / "results.json") for folder in reports}
        found = sweep_results(settings, list(found_per_report.values()))
        folders = {results["trigger"]["name"]: folder for folder, results in found_per_report.items()}
        for name, folder in folders.items():
            shutil.copytree(folder, report / "triggers" / folder_name(name))
        write_json(report / "sweep.json", found)
        pictures = _draw(report / "figures", settings, found, folders)
        write_sweep_report(report / "report.html", found, pictures)
        _publish(log.summary_run(tracked), report, found)


def _draw(folder: Path, settings: SweepConfig, found: dict[str, Any], folders: dict[str, Path]) -> dict[str, Picture]:
    figures.draw_sweep(found["triggers"], folder / "sweep.png")
    rows = {row["name"]: row for row in found["triggers"]}
    panels = [
        figures.Panel.of(rows[name], read_tensors(folders[name] / "embedding.safetensors"))
        for name in panel_triggers(settings, found)
    ]
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


def _publish(run: TrackedRun, report: Path, found: dict[str, Any]) -> None:
    for line in found["summary"]:
        name = f"{line['group']}.{line['method'].replace('=', '_')}"
        run.metrics({f"{name}.{part}": line[part] for part in ("mean", "std", "worst")})
    run.files(report / "figures", "figures")
    run.files(report / "report.html")
    run.files(report / "sweep.json")
