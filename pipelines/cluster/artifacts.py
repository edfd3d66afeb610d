"""Where the artifacts of a run on a cluster lie."""

from __future__ import annotations

from untrigger.errors import UserError
from untrigger.pipelines.cluster.api import ClusterRun
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
