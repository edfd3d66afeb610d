"""What a model file is, in a few lines: for a person and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from untrigger.checkpoints.dialects import SMALL
from untrigger.checkpoints.foreign import Candidate, ForeignModel, read_foreign
from untrigger.classifiers import ClassifierDescription, load_classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.metrics import predict
from untrigger.settings.methods import ClassifierSettings
from untrigger.storage.files import sha256


def inspected(
    place: Path, images: ImageData | None, settings: ClassifierSettings, rng: torch.Generator
) -> dict[str, Any]:
    """sha256, kind, dialect, architecture, classes and normalisations, these by their accuracy on `images`, best first.

    Where the network is not as wide as published, or is a small one, the setting of its width as well.

    `settings` may name the architecture and the normalisation of a foreign file. Without images the architecture is the
    likeliest of those that fit, and no normalisation is told for a foreign file.
    """
    if place.is_dir():
        return _of_a_run(place, images)
    foreign = read_foreign(place, settings, 0 if images is None else len(images.class_names))
    found = [] if images is None else foreign.candidates(settings, images, rng)
    return _described(foreign, found)


def _described(foreign: ForeignModel, found: list[Candidate]) -> dict[str, Any]:
    read = found[0].settings if found else foreign.match.read_as(foreign.match.architectures[0], ClassifierSettings())
    architecture = read.architecture
    return {
        "sha256": sha256(foreign.path),
        "kind": foreign.kind,
        "dialect": foreign.match.dialect,
        "architecture": architecture,
        **_width(read),
        "classes": foreign.match.classes,
        "normalisation": [
            {"name": candidate.settings.normalisation, "accuracy": candidate.accuracy}
            for candidate in found
            if candidate.settings.architecture == architecture
        ],
    }


def _of_a_run(folder: Path, images: ImageData | None) -> dict[str, Any]:
    description, model = ClassifierDescription.load(folder), load_classifier(folder)
    found = []
    if images is not None:
        if description.classes != len(images.class_names):
            raise UserError(
                f"the classifier {folder} has {description.classes} classes, the dataset has {len(images.class_names)}"
            )
        right = predict(model, images.images).argmax(1) == images.labels
        found = [{"name": "its own", "accuracy": right.double().mean().item()}]
    return {
        "sha256": sha256(folder / "classifier.safetensors"),
        "kind": "run",
        "dialect": "untrigger",
        "architecture": description.settings.architecture,
        **_width(description.settings),
        "classes": description.classes,
        "normalisation": found,
    }


def _width(settings: ClassifierSettings) -> dict[str, int]:
    """The setting that makes a network as wide, by its name."""
    if settings.architecture == SMALL:
        return {"width": settings.width}
    return {} if settings.stem_width is None else {"stem_width": settings.stem_width}
