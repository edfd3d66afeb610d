"""The reports of runs on a cluster, as Kubeflow Pipelines leaves them in the object store.

An artifact lies at ROOT/PIPELINE/RUN-ID/TASK/ATTEMPT/ARTIFACT, where ROOT is the pipeline root. Some versions put
folders of their own before PIPELINE (namespace/NAMESPACE/pipeline).
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from untrigger.artifacts import read_json, write_json
from untrigger.errors import UserError
from untrigger.model_scans import write_scans
from untrigger.reports.endings import ENDINGS, RunResults
from untrigger.reports.grid_tables import write_grid
from untrigger.reports.grids import CELLS, GridResult, joined_grids
from untrigger.reports.results import Results
from untrigger.reports.scans import ScanReport, joined_scans
from untrigger.reports.sweep import SweepResults
from untrigger.reports.sweep_report import bring_together
from untrigger.settings.runs import SweepConfig
from untrigger.stages.identities import STAGES
from untrigger.stages.verdicts import MODELS
from untrigger.storage.bundles import OnFile, quiet
from untrigger.storage.objects import Address, ObjectStore

PIPELINE_ROOT = "pipelines"
"""Below the store's address: where the artifacts of submitted runs go."""

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

FETCHED = "fetched.json"
"""Says in a folder with a fetched report where it comes from."""


@dataclass(frozen=True)
class StoredReport:
    """The report of a run that has ended: where its files are, and what kind of results is among them."""

    address: Address
    results: type[RunResults]

    def read(self, store: ObjectStore) -> RunResults:
        """What the run found; UserError when that is no longer there."""
        file = self.address / self.results.FILE
        return self.results.parse(store.read(file) or b"{}", str(file))


def find_run(store: ObjectStore, root: Address, run_id: str, depth: int = 4) -> Address | None:
    """Where the artifacts of a run lie, at most `depth` folders below a pipeline root; None when there are none."""
    folders = [name.rstrip("/") for name in store.names(root) if name.endswith("/")]
    if run_id in folders:
        return root / run_id
    if depth:
        for folder in folders:
            if not RUN_ID.fullmatch(folder) and (found := find_run(store, root / folder, run_id, depth - 1)):
                return found
    return None


def find_report(store: ObjectStore, run: Address) -> StoredReport | None:
    """The report of the run whose artifacts lie at `run`; None when it has none (yet)."""
    pipeline = run.prefix.rpartition("/")[0]
    ending = next((each for name, each in ENDINGS.items() if pipeline.endswith(name)), ENDINGS["defense"])
    task, results = run / STAGES[ending.stage].task, ending.results
    reports = [task / attempt.rstrip("/") / "report" for attempt in store.names(task)]
    finished = [StoredReport(report, results) for report in reports if results.FILE in store.names(report)]
    return finished[-1] if finished else None


def fetch_report(store: ObjectStore, run: Address, folder: Path, on_file: OnFile = quiet) -> None:
    """Download the report of a run into `folder`.

    UserError when the run has no report, or when the folder holds something else.
    """
    found = find_report(store, run)
    if found is None:
        raise UserError(f"{run} holds no report: the run has not come to its last stage")
    _mark(folder, str(found.address))
    _download(store, found.address, folder, on_file)


def fetch_triggers(
    store: ObjectStore, runs: Sequence[Address], config: SweepConfig, folder: Path, on_file: OnFile = quiet
) -> SweepResults:
    """Bring together in `folder` what sweeps, or the parts of one, have of each trigger, whether they ended or not.

    runs: where the artifacts of each lie. config: of the whole; only triggers with a report count. UserError when there
    is none, or when the folder holds something else.
    """
    with tempfile.TemporaryDirectory() as temporary:
        reports: dict[str, Path] = {}
        for found in (report for run in runs for report in trigger_reports(store, run)):
            here = Path(temporary) / str(len(reports))
            _download(store, found.address, here, on_file)
            reports[Results.load(here).trigger.name] = here
        if not reports:
            raise UserError(f"{', '.join(map(str, runs))}: no trigger has come to its report")
        _mark(folder, ", ".join(map(str, runs)))
        swept = {
            name: tuple(each for each in getattr(config, name) if each in reports) for name in ("triggers", "panels")
        }
        whole = Path(temporary) / "whole"
        results = bring_together([reports[name] for name in swept["triggers"]], whole, config.model_copy(update=swept))
        shutil.copytree(whole, folder, dirs_exist_ok=True)
    return results


def fetch_parts(
    store: ObjectStore, runs: Sequence[Address], folder: Path, on_file: OnFile = quiet
) -> ScanReport | GridResult:
    """Bring together in `folder` what the parts of a divided scan or grid found; runs: where the artifacts of each lie.

    UserError when one has no report, or when the folder holds something else.
    """
    _mark(folder, ", ".join(map(str, runs)))
    scans: list[ScanReport] = []
    grids: list[GridResult] = []
    for run in runs:
        with tempfile.TemporaryDirectory() as temporary:
            part = Path(temporary) / "part"
            fetch_report(store, run, part, on_file)
            for kept in (part / name for name in (MODELS, CELLS) if (part / name).exists()):
                shutil.copytree(kept, folder / kept.name, dirs_exist_ok=True)
            if (part / GridResult.FILE).exists():
                grids.append(GridResult.load(part))
            else:
                scans.append(ScanReport.load(part))
    if grids:
        found = joined_grids(grids)
        write_grid(folder, found)
        return found
    scanned = joined_scans(scans)
    write_scans(folder, scanned, folder / MODELS)
    return scanned


def trigger_reports(store: ObjectStore, run: Address) -> list[StoredReport]:
    """The report of each trigger of a sweep that has come so far."""
    reports = [run / "evaluation" / attempt.rstrip("/") / "report" for attempt in store.names(run / "evaluation")]
    return [StoredReport(report, Results) for report in reports if Results.FILE in store.names(report)]


def _mark(folder: Path, source: str) -> None:
    """Take `folder` for what comes from `source`; UserError when it holds something else."""
    mark = folder / FETCHED
    if folder.exists() and any(folder.iterdir()) and not (mark.exists() and read_json(mark)["from"] == source):
        raise UserError(f"{folder} holds something else already: give another folder")
    write_json(mark, {"from": source})


def _download(store: ObjectStore, source: Address, folder: Path, on_file: OnFile) -> None:
    names = store.names(source, recursive=True)
    for done, name in enumerate(names, start=1):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{source} names a file outside of itself: {name!r}")
        store.get(source / name, folder / name, None)
        on_file(name, done, len(names), True)
