"""Clean training: the classifier before any attack, trained here or given ready-made."""

from __future__ import annotations

from pathlib import Path

import torch

from untrigger.checkpoints.foreign import read_foreign
from untrigger.classifiers import (
    Classifier,
    load_classifier,
    new_classifier,
    save_classifier,
    with_precision,
)
from untrigger.datasets.images import ImageData, load_images
from untrigger.errors import UserError
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.reuse import ModelName
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.storage.sources import model_place
from untrigger.training import TrainingCurves, train

RECOGNISED = 0.5
"""Below this accuracy a model file counts as made for other images."""


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
    images = load_images(training_data)
    history: list[dict[str, float]] = []
    with log.run() as tracked:
        if weights:
            place = model_place(weights)
            if place.is_dir():
                model = _ready_made(place, weights, len(images.class_names))
            else:
                rng = derived_rng(seed, "normalisation")
                model = _made_elsewhere(log, place, classifier, images.to(device()), rng)
        else:
            images = images.to(device())
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


def _ready_made(place: Path, weights: str, classes: int) -> Classifier:
    model = load_classifier(place)
    if model.classes != classes:
        raise UserError(f"the classifier {weights} has {model.classes} classes, the dataset has {classes}")
    model.settings = with_precision(model.settings, device())
    return model


def _made_elsewhere(
    log: Log, place: Path, settings: ClassifierSettings, images: ImageData, rng: torch.Generator
) -> Classifier:
    """The classifier in a model file, read and normalised in the way that recognises most of `images`."""
    foreign = read_foreign(place, settings, len(images.class_names))
    best, *others = foreign.candidates(settings, images, rng)
    told = f"{place.name} is taken as {best} of the images right" + (f"; next {others[0]}" if others else "")
    if best.accuracy < RECOGNISED:
        told += ": are --dataset, the order of its classes and --classifier.normalisation those that it was made with?"
    log.reporter.say("warning", told)
    return foreign.classifier(with_precision(best.settings, device()), images.images)
