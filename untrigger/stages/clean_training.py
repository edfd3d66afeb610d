"""Clean training: the classifier before any attack, trained here or given ready-made."""

from __future__ import annotations

import torch

from untrigger.checkpoints.models import DOUBT, RECOGNISED, open_model
from untrigger.classifiers import Classifier, new_classifier, save_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelName
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.training import TrainingCurves, train


@stage("clean_training")
def run(
    log: Log,
    *,
    training_data: InFolder,
    clean_classifier: OutFolder,
    classifier: ClassifierSettings,
    training: CleanTrainingSettings,
    weights: ModelName,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Write the classifier and its curve: loss and accuracy on the training batches per epoch.

    With `weights`, a folder, a model file made elsewhere or an address in a store, that classifier is taken and nothing
    is trained. Raises UserError when it is refused or answers with another number of classes than the data have.
    """
    images = load_images(training_data).to(device())
    history: list[dict[str, float]] = []
    with log.run() as tracked:
        if weights:
            model = _given(log, weights, classifier, images, derived_rng(seed, "normalisation"))
        else:
            model = new_classifier(classifier, len(images.class_names), images.images, derived_rng(seed, "classifier"))
            on_epoch = log.epochs(tracked, training.epochs, history)
            train(
                model,
                images.images,
                images.labels,
                training,
                rng=derived_rng(seed, "clean training"),
                on_epoch=on_epoch,
                snapshot=snapshots.of_curve("training", history, on_epoch),
            )
        tracked.parameters({"precision": model.settings.precision})
        save_classifier(model, clean_classifier)
        TrainingCurves.of({"clean": history}).save(clean_classifier)


def _given(log: Log, weights: str, settings: ClassifierSettings, images: ImageData, rng: torch.Generator) -> Classifier:
    """The classifier that was given; of a model file in the reading that recognises most of `images`."""
    opened = open_model(weights, settings, images, rng=rng)
    if opened.accuracy is not None:
        doubt = f": {DOUBT}" if opened.accuracy < RECOGNISED else ""
        log.reporter.say("warning", f"{weights} is taken as {opened.reading}{doubt}")
    return opened.classifier
