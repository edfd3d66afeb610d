"""Model scan: whatever opens models of others, searched for on the defender's images."""

from __future__ import annotations

from functools import partial

from untrigger.artifacts import write_json
from untrigger.datasets.images import load_images
from untrigger.errors import UserError
from untrigger.model_scans import open_suspect, scan_suspect
from untrigger.networks.devices import device
from untrigger.reports.scans import Unscanned
from untrigger.settings.scans import ScanConfig, ScanSettings, SuspectClassifierSettings
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelNames
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.storage.sources import model_place


@stage("model_scan")
def run(
    log: Log,
    *,
    defender_data: InFolder,
    scanned: OutFolder,
    models: ModelNames,
    dataset: str,
    classifier: SuspectClassifierSettings,
    scan: ScanSettings,
    seed: int,
) -> None:
    """Write what was measured of each of `models`, and found in it, into folders in their order; nothing for none.

    Of a model that cannot be scanned the reason is written, and keeps no other from being scanned. Raises UserError
    where a store does not give one: that may pass, so that the stage is not to count as done.
    """
    write_json(scanned / "scanned.json", {"models": list(models)})
    data = load_images(defender_data).to(device())
    config = ScanConfig(dataset=dataset, classifier=classifier, scan=scan, seed=seed)
    warn = partial(log.reporter.say, "warning")
    for number, name in enumerate(models):
        model_place(name)
        with log.run():
            folder = scanned / f"{number:05d}"
            try:
                scan_suspect(open_suspect(name, config, data, warn), config, data, log.reporter.step).save(folder)
            except UserError as error:
                warn(f"{name} was not scanned: {error}")
                Unscanned(model=name, why=str(error)).save(folder)
