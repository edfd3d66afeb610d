"""Clean reference models: what a scan finds in models of the same kind that have no backdoor."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from untrigger import __version__
from untrigger.classifiers import Classifier, ClassifierDescription, load_classifier, new_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import dataset_source
from untrigger.errors import UserError
from untrigger.scanning import Measured, OnWork, scan_classifier
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.base import Stored, flattened
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.settings.scans import ReferencesConfig, ScanConfig
from untrigger.storage.files import entries, sha256
from untrigger.training import train


class Recipe(Stored):
    """How the models of a folder were trained, all alike."""

    FILE = "references.json"

    dataset: str
    """What stands for its content."""
    class_names: tuple[str, ...]
    config: dict[str, Any]
    version: str = __version__


def train_references(folder: Path, config: ReferencesConfig, training: ImageData, on_work: OnWork | None = None) -> int:
    """Train what is missing of `config.count` clean models, each from an initialisation and a stream of its own.

    Finished ones are kept. Returns how many were trained. Raises UserError where the folder holds models of another
    recipe.
    """
    settled = {name: value for name, value in config.record().items() if name not in ("count", "dataset")}
    identity = dataset_source(config.dataset).identity()
    recipe = Recipe.of({"dataset": identity, "class_names": training.class_names, "config": settled})
    _check_recipe(folder, recipe)
    recipe.save(folder)
    trained = 0
    for number in range(1, config.count + 1):
        place = folder / f"{number:03d}"
        if not (place / ClassifierDescription.FILE).exists():
            save_classifier(_reference(config, training, number), place)
            trained += 1
        if on_work is not None:
            on_work("references", number, config.count)
    return trained


def _reference(config: ReferencesConfig, training: ImageData, number: int) -> Classifier:
    return clean_model(config.classifier, config.training, training, derived_seed(config.seed, "reference", number))


def clean_model(
    classifier: ClassifierSettings, settings: CleanTrainingSettings, training: ImageData, seed: int
) -> Classifier:
    """A clean classifier of this seed, trained as a run's clean training does it."""
    model = new_classifier(classifier, len(training.class_names), training.images, derived_rng(seed, "classifier"))
    train(model, training.images, training.labels, settings, rng=derived_rng(seed, "clean training"))
    return model


def _check_recipe(folder: Path, recipe: Recipe) -> None:
    if not (folder / Recipe.FILE).exists():
        return
    kept = Recipe.load(folder)
    if kept.dataset != recipe.dataset or kept.class_names != recipe.class_names:
        raise UserError(f"{folder} holds references for other data: train these in a folder of their own")
    before, now = flattened(kept.config), flattened(recipe.config)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise UserError(
                f"{folder} holds references trained with {name} {before.get(name)}, not {now.get(name)}: train these "
                "in a folder of their own"
            )


def scan_references(
    folder: Path, suspect: Classifier, data: ImageData, config: ScanConfig, on_work: OnWork | None = None
) -> list[Measured]:
    """What the same scan finds in each reference of the folder; what was found before with the same settings is kept.

    data: the defender's images, as for the suspect. Raises UserError when there are no references, or when one is of
    another architecture, class count or dataset than the suspect.
    """
    places = reference_places(folder)
    _check_data(folder, config, data)
    found = []
    for number, place in enumerate(places, 1):
        kept = place / "scans" / _fingerprint(place, data, config)
        if not (kept / Measured.FILE).exists():
            reference = load_classifier(place, data.images.device)
            check_alike(place, reference, suspect)
            scan_classifier(reference, data, config.scan, rng=derived_rng(config.seed, "scan")).measured.save(kept)
        else:
            check_alike(place, load_classifier(place), suspect)
        found.append(Measured.load(kept))
        if on_work is not None:
            on_work("references", number, len(places))
    return found


def reference_places(folder: Path) -> list[Path]:
    """The folders of the references; UserError when there are none."""
    places = [path for path in entries(folder) if (path / ClassifierDescription.FILE).exists()]
    if not places:
        raise UserError(f"{folder} holds no references: train some with `untrigger references --output {folder}`")
    return places


def _check_data(folder: Path, config: ScanConfig, data: ImageData) -> None:
    if not (folder / Recipe.FILE).exists():
        return
    recipe = Recipe.load(folder)
    if recipe.dataset != dataset_source(config.dataset).identity() or recipe.class_names != data.class_names:
        raise UserError(
            f"the references in {folder} were trained on other data than {config.dataset}: train some on these, with "
            "`untrigger references`"
        )


def check_alike(place: Path, reference: Classifier, suspect: Classifier) -> None:
    """UserError when a reference is of another architecture or class count than the suspect."""
    for what, theirs, its in (
        ("classes", f"{reference.classes}", f"{suspect.classes}"),
        ("architecture", _architecture(reference), _architecture(suspect)),
    ):
        if theirs != its:
            raise UserError(
                f"the reference {place} is of another kind than the model ({what} {theirs}, not {its}): train "
                "references of its own architecture and classes"
            )


def _architecture(classifier: Classifier) -> str:
    parameters = sum(parameter.numel() for parameter in classifier.network.parameters())
    return f"{classifier.settings.architecture} of {parameters:,} parameters"


def _fingerprint(place: Path, data: ImageData, config: ScanConfig) -> str:
    """Of all that what is found in a reference depends on."""
    told = {
        "weights": sha256(place / "classifier.safetensors"),
        "images": [_digest(data.images), _digest(data.labels)],
        "scan": config.scan.record(),
        "seed": config.seed,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).hexdigest()
