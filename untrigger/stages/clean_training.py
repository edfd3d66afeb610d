"""Clean training: the classifier before any attack, trained here or given ready-made."""

from __future__ import annotations

from untrigger.classifiers import Classifier, load_classifier, new_classifier, save_classifier, with_precision
from untrigger.datasets.images import load_images
from untrigger.errors import UserError
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelName
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.storage.sources import classifier_folder
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
) -> None:
    """Write the classifier and its curve: loss and accuracy on the training batches per epoch.

    With `weights`, a folder or an address in a store, that classifier is taken and nothing is trained. Raises
    UserError when it answers with another number of classes than the data have.
    """
    images = load_images(training_data)
    history: list[dict[str, float]] = []
    with log.run() as tracked:
        if weights:
            model = _ready_made(weights, len(images.class_names))
        else:
            images = images.to(device())
            model = new_classifier(classifier, len(images.class_names), images.images, derived_rng(seed, "classifier"))
            train(
                model,
                images.images,
                images.labels,
                training,
                rng=derived_rng(seed, "clean training"),
                on_epoch=log.epochs(tracked, training.epochs, history),
            )
        tracked.parameters({"precision": model.settings.precision})
        save_classifier(model, clean_classifier)
        TrainingCurves.of({"clean": history}).save(clean_classifier)


def _ready_made(weights: str, classes: int) -> Classifier:
    model = load_classifier(classifier_folder(weights))
    if model.classes != classes:
        raise UserError(f"the classifier {weights} has {model.classes} classes, the dataset has {classes}")
    model.settings = with_precision(model.settings, device())
    return model
