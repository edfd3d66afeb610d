"""Several runs side by side: what was set differently, and how each method came out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from untrigger.artifacts import FORMAT, read_json
from untrigger.errors import UserError
from untrigger.results import RATES, mean_and_spread
from untrigger.sweep import BEFORE

Spread = tuple[float, float]
"""Mean and standard deviation."""


@dataclass(frozen=True)
class ComparedRun:
    """A finished run: its name, its configuration, and its rates by method and name.

    The rates of one trigger spread over the retraining seeds, those of a sweep over the triggers.
    """

    name: str
    config: Mapping[str, Any]
    rates: Mapping[str, Mapping[str, Spread]]

    @classmethod
    def of_one(cls, name: str, found: Mapping[str, Any]) -> ComparedRun:
        """From the content of `results.json`."""
        before = {rate: (value, 0.0) for rate, value in found["before"].items()}
        after = {
            line["method"]: {rate: (line[f"{rate}_mean"], line[f"{rate}_std"]) for rate in RATES}
            for line in found["summary"]
        }
        return cls(name, found["config"], {BEFORE: before, **after})

    @classmethod
    def of_sweep(cls, name: str, found: Mapping[str, Any], triggers: Collection[str]) -> ComparedRun:
        """From the content of `sweep.json`, over these `triggers` of it; the methods are named group by group."""
        values: dict[str, dict[str, list[float]]] = {}
        for row in found["triggers"]:
            for method, rates in row["rates"].items() if row["name"] in triggers else ():
                own = values.setdefault(f"{row['group']}: {method}", {})
                for rate in RATES:
                    if rate in rates:
                        own.setdefault(rate, []).append(rates[rate])
        spreads = {
            method: {rate: mean_and_spread(each) for rate, each in rates.items()} for method, rates in values.items()
        }
        return cls(name, found["config"], spreads)


@dataclass(frozen=True)
class ComparedRate:
    """One rate of one run: mean, spread, and what sets it apart from the same rate of the first run.

    `differs` when the means are further apart than both standard deviations together.
    """

    mean: float
    std: float
    difference: float | None
    differs: bool


def read_runs(names: Sequence[str]) -> list[ComparedRun]:
    """Read the runs in output folders, or at their addresses in an object store, where a cluster may have left them.

    Sweeps are compared over the triggers that all of them have. Raises UserError when there is no such run, when it has
    not finished, or when sweeps are mixed with runs of one trigger.
    """
    found = {name: _results(name) for name in names}
    sweeps = [name for name, results in found.items() if "triggers" in results]
    short = {name: name.rstrip("/").rpartition("/")[2][:12] if name.startswith("s3://") else name for name in names}
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
    if name.startswith("s3://"):
        return _stored_results(name)
    for path in (Path(name) / "sweep.json", Path(name) / "results.json"):
        if path.exists():
            return read_json(path)
    raise UserError(f"{name} holds no results.json: give the output folder of a finished run, or its s3:// address")


def _stored_results(name: str) -> dict[str, Any]:
    from untrigger.cluster_results import find_report
    from untrigger.storage import Address, ObjectStore

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


def methods(runs: Sequence[ComparedRun]) -> list[str]:
    """All methods of all runs, `before` among them, in order of appearance."""
    return list(dict.fromkeys(method for run in runs for method in run.rates))


def compared(runs: Sequence[ComparedRun], method: str, rate: str) -> list[ComparedRate | None]:
    """The rate of each run, None where a run lacks it."""
    values = [run.rates.get(method, {}).get(rate) for run in runs]
    first = values[0]
    cells: list[ComparedRate | None] = []
    for index, value in enumerate(values):
        if value is None:
            cells.append(None)
        elif index == 0 or first is None:
            cells.append(ComparedRate(*value, None, False))
        else:
            difference = value[0] - first[0]
            cells.append(ComparedRate(*value, difference, abs(difference) > value[1] + first[1]))
    return cells


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """The settings, under dotted names, that are not the same in all runs, with the value in each."""
    flat = [dict(_flattened(run.config)) for run in runs]
    names = dict.fromkeys(name for values in flat for name in values)
    found = {name: [values.get(name) for values in flat] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def write_comparison(path: Path, runs: Sequence[ComparedRun]) -> None:
    """Write the comparison as one self-contained page."""
    from untrigger.report import page_templates

    rows = [(method, rate, compared(runs, method, rate)) for rate in RATES for method in methods(runs)]
    page = page_templates().get_template("comparison.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(runs=runs, rates=RATES, rows=rows, settings=differing_settings(runs)))
