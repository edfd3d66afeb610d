"""Opening a model by its name, whoever made it: a classifier, and what it was taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from untrigger.checkpoints.foreign import ForeignModel, read_foreign
from untrigger.classifiers import Classifier, load_classifier, with_precision
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import AS_IN_FILE, ClassifierSettings
from untrigger.storage.files import entries, sha256
from untrigger.storage.sources import CLASSIFIER_FILES, MODEL_SUFFIXES, has_model_name, model_place

RECOGNISED = 0.5
"""Below this accuracy a model counts as made for other images."""

DOUBT = "are --dataset, the order of its classes and --classifier.normalisation those that it was made with?"
"""What is asked of such a model."""


@dataclass(frozen=True)
class OpenedModel:
    """A classifier in evaluation mode, where the images are, and what is known of where it came from.

    reading: which of the possible readings of a model file was taken, and by how much; "" where there was no choice.
    accuracy: that of this reading on some of the images. foreign: the file. Both are None of the classifier of a run.
    """

    name: str
    classifier: Classifier
    sha256: str
    kind: str
    dialect: str
    reading: str = ""
    accuracy: float | None = None
    foreign: ForeignModel | None = None

    def identity(self) -> dict[str, str]:
        """What results tell of it."""
        told = {name: getattr(self, name) for name in ("sha256", "kind", "dialect", "reading")}
        return {"model": self.name, **told, "architecture": self.classifier.settings.architecture}


def open_model(name: str, settings: ClassifierSettings, images: ImageData, *, rng: torch.Generator) -> OpenedModel:
    """Open the folder `classifier` of a run, a model file made elsewhere, or an address of either in a store.

    A file is read, and normalised, as it recognises most of `images`. Raises UserError when it is refused, or when it
    answers with another number of classes than the images have.
    """
    place = model_place(name)
    if place.is_dir():
        model = load_classifier(place, images.images.device)
        _check_as_given(name, model.settings, settings)
        if model.classes != len(images.class_names):
            raise UserError(
                f"the classifier {name} has {model.classes} classes, the dataset has {len(images.class_names)}"
            )
        model.settings = with_precision(model.settings, images.images.device)
        return OpenedModel(name, model, sha256(place / CLASSIFIER_FILES[1]), "run", "untrigger")
    foreign = read_foreign(place, settings, len(images.class_names))
    best, *others = foreign.candidates(settings, images, rng)
    reading = f"{best} of the images right" + (f"; next {others[0]}" if others else "")
    model = foreign.classifier(with_precision(best.settings, images.images.device), images.images)
    return OpenedModel(name, model, sha256(place), foreign.kind, foreign.match.dialect, reading, best.accuracy, foreign)


def _check_as_given(name: str, own: ClassifierSettings, given: ClassifierSettings) -> None:
    """UserError where a classifier that says itself what it is was given as something else."""
    if given.architecture not in (AS_IN_FILE, own.architecture):
        raise UserError(
            f"{name} is the classifier of a run, a {own.architecture}, and no {given.architecture}, which "
            "--classifier.architecture names: leave the option out"
        )
    if given.normalisation is not None:
        raise UserError(
            f"{name} is the classifier of a run, normalised as it says: leave --classifier.normalisation out"
        )


def models_in(names: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """The models that `names` stand for: a folder that is none itself stands for all models in it, by their names.

    What else lies in such a folder `say` is told. UserError when there is no model in it.
    """
    found = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir() or (folder / CLASSIFIER_FILES[0]).exists():
            found.append(name)
            continue
        models = {path: _is_model(path) for path in entries(folder)}
        inside = [f"{path}" for path, is_one in models.items() if is_one]
        if not inside:
            raise UserError(
                f"{folder} holds no models: give model files, folders `classifier` of runs, or a folder of those"
            )
        if others := [path.name for path, is_one in models.items() if not is_one]:
            named = ", ".join(others[:5]) + (" and others" if len(others) > 5 else "")
            say(f"{folder}: no model by its name, and not scanned: {named} (models end in {', '.join(MODEL_SUFFIXES)})")
        found += inside
    return found


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return (path / CLASSIFIER_FILES[0]).exists()
    return has_model_name(path)
