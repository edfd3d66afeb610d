"""Finished runs, read from output folders or from an object store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from untrigger.artifacts import FORMAT, read_json
from untrigger.errors import UserError
from untrigger.reports.comparison import ComparedRun
from untrigger.settings.base import home_expanded
from untrigger.storage.sources import is_address


def read_runs(names: Sequence[str]) -> list[ComparedRun]:
    """Read the runs in output folders, or at their addresses in an object store, where a cluster may have left them.

    Sweeps are compared over the triggers that all of them have. Raises UserError when there is no such run, when it has
    not finished, or when sweeps are mixed with runs of one trigger.
    """
    found = {name: _results(name) for name in dict.fromkeys(names)}
    sweeps = [name for name, results in found.items() if "triggers" in results]
    short = {name: name.rstrip("/").rpartition("/")[2][:12] if is_address(name) else name for name in names}
    if not sweeps:
        return [ComparedRun.of_one(short[name], found[name]) for name in names]
    if len(sweeps) < len(found):
        other = next(name for name in names if name not in sweeps)
        raise UserError(f"{sweeps[0]} is a sweep and {other} is not: compare sweeps with sweeps, or run by run")
    shared = reduce(set.intersection, ({row["name"] for row in results["triggers"]} for results in found.values()))
    if not shared:
        raise UserError(f"{', '.join(names)} have no trigger in common")
    return [ComparedRun.of_sweep(short[name], found[name], shared) for name in names]


def _results(name: str) -> dict[str, Any]:
    """The content of a run's `results.json`, or of a sweep's `sweep.json`."""
    if is_address(name):
        return _stored_results(name)
    folder = Path(home_expanded(name))
    for path in (folder / "sweep.json", folder / "results.json"):
        if path.exists():
            return read_json(path)
    raise UserError(f"{name} holds no results.json: give the output folder of a finished run, or its s3:// address")


def _stored_results(name: str) -> dict[str, Any]:
    from untrigger.runs.stored_reports import find_report
    from untrigger.storage.objects import Address, ObjectStore

    store, address = ObjectStore(), Address.parse(name)
    raw = store.read(address / "sweep.json") or store.read(address / "results.json")
    if raw is None and (report := find_report(store, address)) is not None:
        raw = store.read(report.address / report.results)
    if raw is None:
        raise UserError(f"{name} holds no results.json: `untrigger store ls` lists the runs of a bucket")
    content = json.loads(raw)
    if content.get("format") != FORMAT:
        raise UserError(f"{name} has format {content.get('format')!r}, this version of untrigger reads {FORMAT}")
    return dict(content)
