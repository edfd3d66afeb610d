"""Model scan: whatever opens models of others, searched for on the defender's images."""

from __future__ import annotations

from functools import partial

from untrigger.artifacts import write_json
from untrigger.datasets.images import load_images
from untrigger.model_scans import open_suspect, scan_suspect
from untrigger.networks.devices import device
from untrigger.settings.scans import ScanConfig, ScanSettings, SuspectClassifierSettings
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelNames
from untrigger.stages.stage import InFolder, OutFolder, stage


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
    """Write what was measured of each of `models`, and found in it, into folders in their order; nothing for none."""
    write_json(scanned / "scanned.json", {"models": list(models)})
    data = load_images(defender_data).to(device())
    config = ScanConfig(dataset=dataset, classifier=classifier, scan=scan, seed=seed)
    for number, name in enumerate(models):
        with log.run():
            suspect = open_suspect(name, config, data, partial(log.reporter.say, "warning"))
            scan_suspect(suspect, config, data, log.reporter.step).save(scanned / f"{number:05d}")
