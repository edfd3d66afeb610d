"""Finished runs, read from output folders or from an object store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from untrigger.errors import UserError
from untrigger.reports.comparison import ComparedRun
from untrigger.reports.results import Results
from untrigger.reports.sweep import SweepResults
from untrigger.settings.base import home_expanded
from untrigger.storage.sources import is_address


def read_runs(names: Sequence[str]) -> list[ComparedRun]:
    """Read the runs in output folders, or at their addresses in an object store, where a cluster may have left them.

    Sweeps are compared over the triggers that all of them have. Raises UserError when there is no such run, when it has
    not finished, or when sweeps are mixed with runs of one trigger.
    """
    found = {
        name: _stored_results(name) if is_address(name) else read_results(Path(home_expanded(name)))
        for name in dict.fromkeys(names)
    }
    short = {name: name.rstrip("/").rpartition("/")[2][:12] if is_address(name) else name for name in names}
    single = {name: results for name, results in found.items() if isinstance(results, Results)}
    sweeps = {name: results for name, results in found.items() if isinstance(results, SweepResults)}
    if not sweeps:
        return [ComparedRun.of_one(short[name], single[name]) for name in names]
    if single:
        sweep, other = next(iter(sweeps)), next(iter(single))
        raise UserError(f"{sweep} is a sweep and {other} is not: compare sweeps with sweeps, or run by run")
    shared = set.intersection(*({row.name for row in results.triggers} for results in sweeps.values()))
    if not shared:
        raise UserError(f"{', '.join(names)} have no trigger in common")
    return [ComparedRun.of_sweep(short[name], sweeps[name], shared) for name in names]


def read_results(folder: Path) -> Results | SweepResults:
    """What the run in an output folder found; UserError when it has not finished."""
    for kind in (SweepResults, Results):
        if (folder / kind.FILE).exists():
            return kind.load(folder)
    raise UserError(f"{folder} holds no results.json: give the output folder of a finished run, or its s3:// address")


def _stored_results(name: str) -> Results | SweepResults:
    from untrigger.runs.stored_reports import find_report
    from untrigger.storage.objects import Address, ObjectStore

    store, address = ObjectStore(), Address.parse(name)
    for kind in (SweepResults, Results):
        if text := store.read(address / kind.FILE):
            return kind.parse(text, str(address / kind.FILE))
    report = find_report(store, address)
    if report and isinstance(found := report.read(store), Results | SweepResults):
        return found
    raise UserError(f"{name} holds no results.json: `untrigger store ls` lists the runs of a bucket")
