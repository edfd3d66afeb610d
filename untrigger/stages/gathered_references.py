"""Gathered references: those of the fan-out become one folder, which scans take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from untrigger.datasets.images import DataOrigin, load_images
from untrigger.references import Recipe, reference_places
from untrigger.reports.references import GatheredReferences
from untrigger.settings.model_runs import ReferencesRunConfig
from untrigger.stages.kept_snapshots import own_store
from untrigger.stages.log import Log
from untrigger.stages.reuse import link_folders
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage
from untrigger.storage.files import files_below

FOLDER = "references"
"""The folder below the report that `--references` takes."""


@stage("gathered_references")
def run(log: Log, *, trained: InFolders, defender_data: InFolder, report: OutFolder, config: dict[str, Any]) -> None:
    """Write `references/`, as `untrigger references` does, and how many there are.

    On a cluster they go into its store, too, at an address that scans take; it is in the report and in MLflow.
    """
    folder, origin = report / FOLDER, DataOrigin.load(defender_data).identity
    with log.run() as tracked:
        link_folders(trained, folder)
        count = len(reference_places(folder))
        class_names = load_images(defender_data).class_names
        Recipe.of_training(ReferencesRunConfig.of(config), origin, class_names).save(folder)
        address = _stored(folder)
        GatheredReferences(count=count, address=address).save(report)
        for each in (tracked, log.summary_run(tracked)):
            each.metrics({"references": count})
            each.parameters({"address": address} if address else {})


def _stored(folder: Path) -> str | None:
    """Where they are in the store of the cluster; None where there is none."""
    store = own_store()
    if not store:
        return None
    from untrigger.storage.bundles import dated, put_content
    from untrigger.storage.objects import Address, ObjectStore

    about = dated("references", count=len(reference_places(folder)))
    return str(put_content(ObjectStore(), folder, files_below(folder), Address.parse(store), about))
