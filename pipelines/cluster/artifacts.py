"""Where the artifacts of a run on a cluster lie."""

from __future__ import annotations

from typing import Any

from untrigger.errors import UserError
from untrigger.runs.stored_reports import find_run
from untrigger.storage.objects import Address, ObjectStore


def run_artifacts(store: ObjectStore, run: Any) -> Address:
    """Where the artifacts of a run lie, as KFP's API describes it; UserError when there are none."""
    root = run.runtime_config.pipeline_root if run.runtime_config else None
    if not root:
        raise UserError(f"the run {run.run_id} does not say where its artifacts are: it was not started by `submit`")
    found = find_run(store, Address.parse(root), run.run_id)
    if found is None:
        raise UserError(f"{root} in the store at {store.shown} holds nothing of the run {run.run_id}")
    return found
