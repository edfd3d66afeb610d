"""Clean reference models: what a scan finds in models of the same kind that have no backdoor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from untrigger import __version__
from untrigger.classifiers import Classifier, ClassifierDescription, load_classifier, new_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import dataset_source
from untrigger.errors import UserError
from untrigger.measurements import Measured
from untrigger.scanning import OnWork, scan_classifier
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.base import Frozen, Settings, Stored, flattened
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.settings.scans import ReferencesConfig, ScanConfig
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.storage.files import entries, sha256
from untrigger.storage.sources import Source
from untrigger.training import train


class NetworkKind(Frozen):
    """What a reference and a suspect must have in common."""

    classes: int
    architecture: str

    @classmethod
    def of_classifier(cls, classifier: Classifier) -> NetworkKind:
        """With the number of its parameters, in which networks of one name may differ."""
        parameters = sum(parameter.numel() for parameter in classifier.network.parameters())
        architecture = f"{classifier.settings.architecture} of {parameters:,} parameters"
        return cls(classes=classifier.classes, architecture=architecture)


class ScannedReference(Stored):
    """What a scan found in the reference of this name."""

    FILE = "reference.json"

    name: str
    network: NetworkKind
    measured: Measured


class Recipe(Stored):
    """How the models of a folder were trained, all alike."""

    FILE = "references.json"

    dataset: str
    """What stands for its content."""
    class_names: tuple[str, ...]
    config: dict[str, Any]
    version: str = __version__

    @classmethod
    def of_training(cls, config: ReferencesConfig, dataset: str, class_names: tuple[str, ...]) -> Recipe:
        """That of references trained as `config` says on the data that `dataset` stands for."""
        told = ReferencesConfig.model_fields.keys() - {"count", "dataset"}
        settled = {name: value for name, value in config.record().items() if name in told}
        return cls.of({"dataset": dataset, "class_names": class_names, "config": settled})

    def check_split(self, place: str, split: Mapping[str, Any]) -> None:
        """UserError when the references at `place` were trained on another part of the data than `split_of` tells.

        They would know images that a suspect is searched and measured on.
        """
        trained = flattened(self.config)
        for name, ours in split.items():
            if (theirs := trained.get(name)) != ours:
                raise UserError(
                    f"the references in {place} were trained with {name} {theirs}, not {ours}: give the same, or train "
                    "some with `untrigger references`"
                )


def train_references(folder: Path, config: ReferencesConfig, training: ImageData, on_work: OnWork | None = None) -> int:
    """Train what is missing of `config.count` clean models, each from an initialisation and a stream of its own.

    Finished ones are kept. Returns how many were trained. Raises UserError where the folder holds models of another
    recipe.
    """
    recipe = Recipe.of_training(config, dataset_source(config.dataset).identity(), training.class_names)
    _check_recipe(folder, recipe)
    recipe.save(folder)
    trained = 0
    for number in range(1, config.count + 1):
        place = folder / reference_name(number)
        if not (place / ClassifierDescription.FILE).exists():
            save_classifier(train_reference(config, training, number), place)
            trained += 1
        if on_work is not None:
            on_work("references", number, config.count)
    return trained


def reference_name(number: int) -> str:
    """The folder of the reference with this number, from 1."""
    return f"{number:03d}"


def train_reference(
    config: ReferencesConfig, training: ImageData, number: int, snapshot: Snapshot = UNKEPT
) -> Classifier:
    """The reference with this number: the same whatever is beside it."""
    seed = derived_seed(config.seed, "reference", number)
    return clean_model(config.classifier, config.training, training, seed, snapshot)


def clean_model(
    classifier: ClassifierSettings,
    settings: CleanTrainingSettings,
    training: ImageData,
    seed: int,
    snapshot: Snapshot = UNKEPT,
) -> Classifier:
    """A clean classifier of this seed, trained as a run's clean training does it."""
    model = new_classifier(classifier, len(training.class_names), training.images, derived_rng(seed, "classifier"))
    rng = derived_rng(seed, "clean training")
    train(model, training.images, training.labels, settings, rng=rng, snapshot=snapshot)
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
    check_recipe(folder, config.dataset, dataset_source(config.dataset).identity(), data)
    check_split(folder, split_of(config))
    kind, found = NetworkKind.of_classifier(suspect), []
    for number, place in enumerate(places, 1):
        reference = load_classifier(place, data.images.device)
        check_alike(f"{place}", NetworkKind.of_classifier(reference), kind)
        found.append(scan_kept(place, reference, data, config))
        if on_work is not None:
            on_work("references", number, len(places))
    return found


def scan_kept(place: Path, reference: Classifier, data: ImageData, config: ScanConfig) -> Measured:
    """What the scan finds in the reference at `place`, beside which it is kept."""
    found = found_before(place, data, config)
    if found is None:
        found = scan_reference(reference, data, config)
        found.save(_kept(place, data, config))
    return found


def found_before(place: Path, data: ImageData, config: ScanConfig) -> Measured | None:
    """What is kept of an earlier scan with the same settings, images and weights."""
    kept = _kept(place, data, config)
    return Measured.load(kept) if (kept / Measured.FILE).exists() else None


def scan_reference(reference: Classifier, data: ImageData, config: ScanConfig) -> Measured:
    """What the scan of a suspect finds in a reference."""
    return scan_classifier(reference, data, config.scan, rng=derived_rng(config.seed, "scan")).measured


def reference_names(name: str) -> list[str]:
    """The names of those in `references_folder(name)`, which are not fetched for it; UserError when there are none."""
    source = Source.of("references", name)
    if not source.stored:
        return [place.name for place in reference_places(references_folder(name))]
    from untrigger.storage.bundles import read_manifest
    from untrigger.storage.objects import Address, ObjectStore

    files = read_manifest(ObjectStore(), Address.parse(name)).files
    return sorted(Path(file).parent.name for file in files if Path(file).name == ClassifierDescription.FILE)


def references_folder(name: str) -> Path:
    """The folder of references that is called `name`, fetched where that is an address in a store."""
    folder = Source.of("references", name).local()
    assert folder is not None, "they are never built in"
    return folder


def reference_places(folder: Path) -> list[Path]:
    """The folders of the references; UserError when there are none."""
    places = [path for path in entries(folder) if (path / ClassifierDescription.FILE).exists()]
    if not places:
        raise UserError(f"{folder} holds no references: train some with `untrigger references --output {folder}`")
    return places


def check_recipe(folder: Path, dataset: str, identity: str, data: ImageData) -> None:
    """UserError when the references in `folder` were trained on other data than `dataset`.

    identity stands for the content of the dataset. Folders that do not say how their models came about are taken.
    """
    recipe = _recipe(folder)
    if recipe is not None and (recipe.dataset != identity or recipe.class_names != data.class_names):
        raise UserError(
            f"the references in {folder} were trained on other data than {dataset}: train some on these, with "
            "`untrigger references`"
        )


def split_of(config: Settings) -> dict[str, Any]:
    """The settings that decide which images are trained on, and how they look."""
    told = flattened(config.record())
    return {name: told.get(name) for name in ("seed", "data.image_size", "data.heldout_share")}


def check_split(folder: Path, split: Mapping[str, Any]) -> None:
    """As `Recipe.check_split`; a folder that does not say how its models came about is taken."""
    if recipe := _recipe(folder):
        recipe.check_split(f"{folder}", split)


def _recipe(folder: Path) -> Recipe | None:
    return Recipe.load(folder) if (folder / Recipe.FILE).exists() else None


def check_alike(place: str, reference: NetworkKind, suspect: NetworkKind) -> None:
    """UserError when the reference at `place` is of another architecture or class count than the suspect."""
    for what in NetworkKind.model_fields:
        theirs, its = getattr(reference, what), getattr(suspect, what)
        if theirs != its:
            raise UserError(
                f"the reference {place} is of another kind than the model ({what} {theirs}, not {its}): train "
                "references of its own architecture and classes"
            )


def _kept(place: Path, data: ImageData, config: ScanConfig) -> Path:
    """Where the scan of a reference is kept."""
    return place / "scans" / _fingerprint(place, data, config)


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
