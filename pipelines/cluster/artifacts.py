"""What a run on a cluster leaves in the store: its artifacts, and the logs of its stages."""

from __future__ import annotations

from untrigger.errors import UserError
from untrigger.pipelines.cluster.api import ClusterRun
from untrigger.pipelines.cluster.workflow import Stage
from untrigger.runs.stored_reports import find_run
from untrigger.storage.objects import Address, ObjectStore


def run_artifacts(store: ObjectStore, run: ClusterRun) -> Address:
    """Where the artifacts of a run lie; UserError when there are none."""
    if not run.root:
        raise UserError(f"the run {run.id} does not say where its artifacts are: it was not started by `submit`")
    found = find_run(store, Address.parse(run.root), run.id)
    if found is None:
        raise UserError(f"{run.root} in the store at {store.shown} holds nothing of the run {run.id}")
    return found


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
