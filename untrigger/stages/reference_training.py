"""Reference training: clean models to compare with, each scanned as a suspect will be."""

from __future__ import annotations

from untrigger.classifiers import save_classifier
from untrigger.datasets.images import load_images
from untrigger.networks.devices import device
from untrigger.references import reference_name, scan_kept, train_reference
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.settings.plans import Numbers
from untrigger.settings.scans import ReferencesConfig, ScanConfig, ScanSettings
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, OutFolder, stage


@stage("reference_training")
def run(
    log: Log,
    *,
    training_data: InFolder,
    defender_data: InFolder,
    trained: OutFolder,
    numbers: Numbers,
    classifier: ClassifierSettings,
    training: CleanTrainingSettings,
    scan: ScanSettings,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Write the references with these numbers into a folder each, what the scan finds in it beside it.

    A later scan with the same settings on the same images finds that, and has only the suspect to search.
    """
    images, data = (load_images(folder).to(device()) for folder in (training_data, defender_data))
    config = ReferencesConfig(classifier=classifier, training=training, seed=seed)
    with log.run() as tracked:
        for done, number in enumerate(numbers, 1):
            name = reference_name(number)
            model = train_reference(config, images, number, snapshots.of(name))
            save_classifier(model, trained / name)
            found = scan_kept(trained / name, model, data, ScanConfig(scan=scan, seed=seed))
            tracked.metrics({f"statistic.{search}": value for search, value in found.statistics().items()}, number)
            log.reporter.step("reference", done, len(numbers), name)
