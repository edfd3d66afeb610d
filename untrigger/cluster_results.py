"""The results of runs on a cluster, as Kubeflow Pipelines leaves them in the object store.

An artifact lies at ROOT/PIPELINE/RUN-ID/TASK/ATTEMPT/ARTIFACT, where ROOT is the pipeline root. Some versions put
folders of their own before PIPELINE (namespace/NAMESPACE/pipeline).
"""

from __future__ import annotations

import re
from pathlib import Path

from untrigger.bundles import OnFile, quiet
from untrigger.errors import UserError
from untrigger.storage import Address, ObjectStore

PIPELINE_ROOT = "pipelines"
"""Below the store's address: where the artifacts of submitted runs go."""

RESULTS = {"aggregation": "sweep.json", "evaluation": "results.json"}
"""The task that writes the report of a run, and the file with its results. A sweep has both: the first counts."""

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find_run(store: ObjectStore, root: Address, run_id: str, depth: int = 4) -> Address | None:
    """Where the artifacts of a run lie, at most `depth` folders below a pipeline root; None when there are none."""
    folders = [name.rstrip("/") for name in store.names(root) if name.endswith("/")]
    if run_id in folders:
        return root / run_id
    if depth:
        for folder in folders:
            if not _RUN_ID.fullmatch(folder) and (found := find_run(store, root / folder, run_id, depth - 1)):
                return found
    return None


def find_report(store: ObjectStore, run: Address) -> tuple[Address, str] | None:
    """The report of the run whose artifacts lie at `run`, and the name of its results; None when it has none yet."""
    for task, results in RESULTS.items():
        reports = [run / task / attempt.rstrip("/") / "report" for attempt in store.names(run / task)]
        finished = [report for report in reports if results in store.names(report)]
        if finished:
            return finished[-1], results
    return None


def fetch_report(store: ObjectStore, run: Address, folder: Path, on_file: OnFile = quiet) -> Path:
    """Download the report of a run into `folder`; the path of its results. UserError when the run has no report."""
    found = find_report(store, run)
    if found is None:
        raise UserError(f"{run} holds no report: the run has not come to its last stage")
    report, results = found
    names = store.names(report, recursive=True)
    for done, name in enumerate(names, start=1):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{report} names a file outside of itself: {name!r}")
        store.get(report / name, folder / name, None)
        on_file(name, done, len(names), True)
    return folder / results
