"""Datasets by name, and their seeded, stratified split into training, defender's and evaluation data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from untrigger.datasets.cifar import check_cifar, cifar_files, read_cifar
from untrigger.datasets.decoding import OnProgress
from untrigger.datasets.digits import read_digits
from untrigger.datasets.folders import class_folders, folder_parts, read_folder
from untrigger.datasets.images import ImageData, Split
from untrigger.datasets.parquet import find_columns, parquet_files, read_parquet
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings
from untrigger.storage.downloads import dataset_name, kept_copy

DESCRIPTIONS = {
    "digits": "scikit-learn's handwritten digits as 3x32x32, built in (1,797 images, 10 classes)",
    "cifar10[:PATH]": "CIFAR-10 in torchvision's layout below PATH (default: data); --download fetches it",
    "cifar100[:PATH]": "CIFAR-100, likewise",
    "parquet:PATH": "a folder of Parquet shards in the Hugging Face image layout (train-*.parquet, test-*.parquet)",
    "folder:PATH": "a folder of class folders, or of train/ and test/ with class folders in each",
    "s3://BUCKET/...": "one of these in an object store, as `untrigger store put` prints it",
}


def check_dataset(name: str, settings: DataSettings) -> None:
    """UserError when the dataset `name` is plainly not to be had; reads no images, but fetches a dataset in a store."""
    kind, _, place = dataset_name(name).partition(":")
    if kind == "digits" and not place:
        return
    if kind in ("cifar10", "cifar100"):
        check_cifar(cifar_files(kind), Path(place or "data"), settings)
    elif kind == "parquet" and place:
        for path in parquet_files(Path(place)):
            find_columns(path, settings)
    elif kind == "folder" and place:
        for part in folder_parts(Path(place)):
            class_folders(part)
    else:
        raise UserError(f"unknown dataset {name!r}: give one of {', '.join(DESCRIPTIONS)}")


def dataset_files(name: str) -> list[Path]:
    """The files that the dataset `name` is read from; none for a built-in one, or one whose name says its content."""
    kind, _, place = name.partition(":")
    if kind == "parquet":
        return parquet_files(Path(place))
    if kind == "folder":
        return sorted(path for path in Path(place).rglob("*") if path.is_file())
    if kind in ("cifar10", "cifar100"):
        return sorted((Path(place or "data") / cifar_files(kind).base_folder).glob("*"))
    return []


def dataset_place(name: str) -> Path | None:
    """The file or folder that holds the dataset `name` and nothing else; None for a built-in one."""
    if name.startswith("s3://"):
        return kept_copy(name)
    kind, _, place = name.partition(":")
    if kind in ("cifar10", "cifar100"):
        return Path(place or "data") / cifar_files(kind).base_folder
    return Path(place) if place else None


def read_split(name: str, settings: DataSettings, *, seed: int, on_progress: OnProgress | None = None) -> Split:
    """Read the dataset `name` and split it, stratified by class.

    With a test part (CIFAR, train/test shards or folders): the training images are its train part, and
    `defender_share` of the test part is the defender's, the rest evaluates. Without one, `heldout_share` of all images
    takes the place of the test part. Raises UserError when the dataset is missing, damaged or too small.
    """
    check_dataset(name, settings)
    kind, _, place = dataset_name(name).partition(":")
    readers: dict[str, Callable[[], tuple[ImageData, ImageData | None]]] = {
        "digits": lambda: (read_digits(settings.image_size), None),
        "cifar10": lambda: read_cifar("cifar10", Path(place or "data"), settings),
        "cifar100": lambda: read_cifar("cifar100", Path(place or "data"), settings),
        "parquet": lambda: read_parquet(Path(place), settings, on_progress),
        "folder": lambda: read_folder(Path(place), settings, on_progress),
    }
    training, heldout = readers[kind]()
    if heldout is None:
        heldout, training = _divide(training, settings.heldout_share, seed)
    defender, evaluation = _divide(heldout, settings.defender_share, seed)
    return Split(training, defender, evaluation)


def _divide(data: ImageData, share: float, seed: int) -> tuple[ImageData, ImageData]:
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(
            np.arange(len(data)), train_size=share, random_state=seed, stratify=data.labels.numpy()
        )
    except ValueError as error:
        raise UserError(
            f"cannot split {len(data)} images of {len(data.class_names)} classes with every class on both sides: "
            f"add images or change data.heldout_share and data.defender_share ({error})"
        ) from error
    return data.subset(first), data.subset(second)
