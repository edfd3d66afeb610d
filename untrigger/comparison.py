"""Several runs side by side: what was set differently, and how each method came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from untrigger.artifacts import FORMAT, read_json
from untrigger.errors import UserError

BEFORE = "before"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run: the name it was given by, and the content of its results.json."""

    name: str
    found: Mapping[str, Any]

    def rate(self, method: str, rate: str) -> tuple[float, float] | None:
        """Mean and standard deviation of a rate under a method, or before any; None when the run lacks it."""
        if method == BEFORE:
            return (self.found["before"][rate], 0.0) if rate in self.found["before"] else None
        lines = [line for line in self.found["summary"] if line["method"] == method]
        return (lines[0][f"{rate}_mean"], lines[0][f"{rate}_std"]) if lines else None


@dataclass(frozen=True)
class ComparedRate:
    """One rate of one run: mean, spread, and what sets it apart from the same rate of the first run.

    `differs` when the means are further apart than both standard deviations together.
    """

    mean: float
    std: float
    difference: float | None
    differs: bool


def read_run(name: str) -> ComparedRun:
    """Read the run in an output folder, or at its address in an object store, where a cluster may have left it.

    Raises UserError when there is none, or when it has not finished.
    """
    if name.startswith("s3://"):
        return ComparedRun(name.rstrip("/").rpartition("/")[2][:12], _stored_results(name))
    path = Path(name) / "results.json"
    if (Path(name) / "sweep.json").exists():
        raise _is_sweep(name)
    if not path.exists():
        raise UserError(f"{name} holds no results.json: give the output folder of a finished run, or its s3:// address")
    return ComparedRun(name, read_json(path))


def _stored_results(name: str) -> dict[str, Any]:
    from untrigger.cluster_results import find_report
    from untrigger.storage import Address, ObjectStore

    store, address = ObjectStore(), Address.parse(name)
    raw = store.read(address / "results.json")
    if raw is None and (report := find_report(store, address)) is not None:
        if report.results != "results.json":
            raise _is_sweep(str(report.address))
        raw = store.read(report.address / report.results)
    if raw is None:
        raise UserError(f"{name} holds no results.json: `untrigger store ls` lists the runs of a bucket")
    content = json.loads(raw)
    if content.get("format") != FORMAT:
        raise UserError(f"{name} has format {content.get('format')!r}, this version of untrigger reads {FORMAT}")
    return dict(content)


def _is_sweep(name: str) -> UserError:
    return UserError(f"{name} is a sweep: compare the runs of its triggers, which are below {name}/triggers")


def methods(runs: Sequence[ComparedRun]) -> list[str]:
    """`before` and all methods of all runs, in order of appearance."""
    return list(dict.fromkeys([BEFORE, *(line["method"] for run in runs for line in run.found["summary"])]))


def compared(runs: Sequence[ComparedRun], method: str, rate: str) -> list[ComparedRate | None]:
    """The rate of each run, None where a run lacks it."""
    values = [run.rate(method, rate) for run in runs]
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
    flat = [dict(_flattened(run.found["config"])) for run in runs]
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
    from untrigger.results import RATES

    rows = [(method, rate, compared(runs, method, rate)) for rate in RATES for method in methods(runs)]
    page = page_templates().get_template("comparison.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(runs=runs, rates=RATES, rows=rows, settings=differing_settings(runs)))
