"""Reference scan: what the scan of a suspect finds in clean models."""

from __future__ import annotations

from untrigger.artifacts import write_json
from untrigger.classifiers import load_classifier
from untrigger.datasets.images import DataOrigin, load_images
from untrigger.networks.devices import device
from untrigger.references import (
    NetworkKind,
    ScannedReference,
    check_recipe,
    check_split,
    found_before,
    references_folder,
    scan_reference,
)
from untrigger.settings.plans import Names
from untrigger.settings.scans import ScanConfig, ScanSettings
from untrigger.stages.log import Log
from untrigger.stages.reuse import ReferencesName
from untrigger.stages.stage import InFolder, OutFolder, stage


@stage("reference_scan")
def run(
    log: Log,
    *,
    defender_data: InFolder,
    scanned: OutFolder,
    references: ReferencesName,
    names: Names,
    dataset: str,
    scan: ScanSettings,
    seed: int,
) -> None:
    """Write what is found in the references with these `names`, or was found before, into a folder each.

    Nothing where there are none. Raises UserError when they were trained on other data.
    """
    write_json(scanned / "scanned.json", {"references": list(names)})
    if not names:
        return
    folder, data = references_folder(references), load_images(defender_data).to(device())
    check_recipe(folder, dataset, DataOrigin.load(defender_data).identity, data)
    check_split(folder, {"seed": seed})
    config = ScanConfig(scan=scan, seed=seed)
    with log.run():
        for done, name in enumerate(names, 1):
            reference = load_classifier(folder / name, device())
            measured = found_before(folder / name, data, config) or scan_reference(reference, data, config)
            kind = NetworkKind.of_classifier(reference)
            ScannedReference(name=name, network=kind, measured=measured).save(scanned / name)
            log.reporter.step("reference", done, len(names), name)
