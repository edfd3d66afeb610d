"""What a run on a cluster leaves in the store: its artifacts, and the logs of its stages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from untrigger.errors import UserError
from untrigger.pipelines.cluster.states import GOING_ON
from untrigger.pipelines.cluster.whole import ClusterRun, WholeRun
from untrigger.pipelines.cluster.workflow import Stage
from untrigger.reports.endings import RunResults
from untrigger.runs.stored_reports import fetch_parts, fetch_report, fetch_triggers, find_report, find_run
from untrigger.storage.bundles import OnFile, quiet
from untrigger.storage.objects import Address, ObjectStore


def run_artifacts(store: ObjectStore, run: ClusterRun) -> Address:
    """Where the artifacts of a run lie; UserError when there are none."""
    if not run.root:
        raise UserError(f"the run {run.id} does not say where its artifacts are: it was not started by `submit`")
    found = find_run(store, Address.parse(run.root), run.id)
    if found is None:
        raise UserError(f"{run.root} in the store at {store.shown} holds nothing of the run {run.id}")
    return found


def fetch_results(store: ObjectStore, run: WholeRun, folder: Path, on_file: OnFile = quiet) -> list[str]:
    """Bring the report of a run, whole or in parts, into `folder`; which triggers of a sweep left no results.

    UserError when the run goes on, or when it has failed and is no sweep.
    """
    config, several = run.sweep(), len(run.parts) > 1
    if run.state != "SUCCEEDED" and (config is None or run.state in GOING_ON):
        raise UserError(f"the run {run.id} is {run.state}: its report is there when it has succeeded")
    if run.state == "SUCCEEDED" and not several:
        fetch_report(store, run_artifacts(store, run.parts[0]), folder, on_file)
        return []
    parts = [run_artifacts(store, part) for part in run.parts]
    if config is None:
        fetch_parts(store, parts, folder, on_file)
        return []
    found = fetch_triggers(store, parts, config, folder, on_file)
    there = {row.name for row in found.triggers}
    return [name for name in config.triggers if name not in there]


def read_results(store: ObjectStore, run: WholeRun) -> RunResults:
    """What a run that has succeeded found; UserError when its report is not there."""
    artifacts, config = [run_artifacts(store, part) for part in run.parts], run.sweep()
    if len(artifacts) > 1:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            return (
                fetch_parts(store, artifacts, here)
                if config is None
                else fetch_triggers(store, artifacts, config, here)
            )
    report = find_report(store, artifacts[0])
    if report is None:
        raise UserError(f"{artifacts[0]} holds no report")
    return report.read(store)


def stage_log(store: ObjectStore, stage: Stage) -> str | None:
    """All that the latest container of a stage wrote; None when the store has nothing of it."""
    for address in stage.logs:
        try:
            content = store.read(address)
        except UserError:  # Argo's logs may lie in a bucket of another store.
            continue
        if content is not None:
            return content.decode(errors="replace")
    return None


def last_lines(log: str, count: int = 5) -> list[str]:
    """The last lines of a log that say something."""
    return [line for line in log.splitlines() if line.strip()][-count:]
