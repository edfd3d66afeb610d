"""Sweeps over different triggers brought together as one: those of several machines, or of several clusters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from untrigger.errors import UserError
from untrigger.reports.comparison import ComparedRun, differing_settings
from untrigger.reports.results import Results
from untrigger.reports.sweep import SweepResults, folder_name
from untrigger.reports.sweep_report import bring_together
from untrigger.reports.tsne import EMBEDDING
from untrigger.settings.runs import SweepConfig

LISTS = ("triggers", "panels")
"""The settings in which the parts may differ."""


def join_sweeps(sweeps: Sequence[Path], output: Path) -> SweepResults:
    """Write the report of a sweep over all triggers of `sweeps` into `output`; returns its results.

    sweeps: output folders of finished sweeps, or what `untrigger fetch` brought. Raises UserError when one of them is
    no such folder or not whole, when a trigger is in two of them, when another setting differs, or when `output` holds
    something.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} holds something already: choose another --output")
    found = [_results(folder) for folder in sweeps]
    config = _joined_config([str(folder) for folder in sweeps], found)
    reports = [report for folder, results in zip(sweeps, found, strict=True) for report in _reports(folder, results)]
    return bring_together(reports, output, config)


def _results(folder: Path) -> SweepResults:
    if not (folder / SweepResults.FILE).exists():
        raise UserError(
            f"{folder} holds no sweep.json: give the folder of a finished sweep (`untrigger fetch` brings one)"
        )
    return SweepResults.load(folder)


def _reports(folder: Path, results: SweepResults) -> list[Path]:
    """The report of each trigger of the sweep in `folder`."""
    reports = [folder / "triggers" / folder_name(row.name) for row in results.triggers]
    for report in reports:
        if not all((report / name).exists() for name in (Results.FILE, EMBEDDING)):
            raise UserError(f"{report} is not whole: fetch that sweep again")
    return reports


def _joined_config(names: Sequence[str], found: Sequence[SweepResults]) -> SweepConfig:
    differing = differing_settings(
        [ComparedRun.of_sweep(name, results, ()) for name, results in zip(names, found, strict=True)]
    )
    for setting, values in differing.items():
        if setting not in LISTS:
            told = ", ".join(f"{value} in {name}" for name, value in zip(names, values, strict=True))
            raise UserError(f"only sweeps with the same settings can be joined: {setting} is {told}")
    lists = {setting: [name for results in found for name in results.config.get(setting, ())] for setting in LISTS}
    return SweepConfig.of({**found[0].config, **lists})
