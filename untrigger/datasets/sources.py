"""Datasets by name, and their seeded, stratified split into training, defender's and evaluation data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from untrigger.datasets.cifar import register_cifar
from untrigger.datasets.decoding import OnProgress
from untrigger.datasets.digits import read_digits
from untrigger.datasets.folders import check_folder, folder_files, read_folder
from untrigger.datasets.images import ImageData, Split
from untrigger.datasets.parquet import check_parquet, parquet_files, read_parquet
from untrigger.datasets.registry import READERS, DatasetReader, register_dataset
from untrigger.errors import UserError
from untrigger.plugins import load_plugins
from untrigger.settings.base import Kind
from untrigger.settings.methods import DataSettings
from untrigger.storage.sources import Source, is_address

register_dataset(
    "digits",
    read_digits,
    description="scikit-learn's handwritten digits as 3x32x32, built in (1,797 images, 10 classes)",
    takes_path=False,
)
register_cifar("cifar10", "CIFAR-10 in torchvision's layout below PATH (default: data); --download fetches it")
register_cifar("cifar100", "CIFAR-100, likewise")
register_dataset(
    "parquet",
    read_parquet,
    description="a folder of Parquet shards in the Hugging Face image layout (train-*.parquet, test-*.parquet)",
    files=parquet_files,
    check=check_parquet,
)
register_dataset(
    "folder",
    read_folder,
    description="a folder of class folders, or of train/ and test/ with class folders in each",
    files=folder_files,
    check=check_folder,
)


def descriptions() -> dict[str, str]:
    """What each kind of name stands for."""
    load_plugins()
    return {
        **{reader.usage: reader.description for reader in READERS.values()},
        "s3://BUCKET/...": "one of these in an object store, as `untrigger store put` prints it",
    }


def dataset_source(name: str) -> Source:
    """The dataset called `name`, not yet looked at; UserError when no such one is known."""
    source = Source.of("dataset", name)
    if is_address(name):
        return source
    reader = _reader(source)
    path = source.path or (Path(reader.default_path) if reader.default_path else None)
    if (path is not None) != reader.takes_path or name.endswith(":"):
        raise _unknown(name)
    return replace(source, path=path, walk=reader.files, content=reader.name if reader.verified else "")


def source_of(kind: Kind, name: str) -> Source:
    """The dataset, classifier or trigger called `name`; UserError when there can be no such one."""
    return dataset_source(name) if kind == "dataset" else Source.of(kind, name)


def check_dataset(name: str, settings: DataSettings) -> None:
    """UserError when the dataset `name` is plainly not to be had; reads no images, but fetches a dataset in a store."""
    source = dataset_source(name)
    _reader(source).check(source.local() or Path(), settings)


def read_split(name: str, settings: DataSettings, *, seed: int, on_progress: OnProgress | None = None) -> Split:
    """Read the dataset `name` and split it, stratified by class.

    With a test part (CIFAR, train/test shards or folders): the training images are its train part, and
    `defender_share` of the test part is the defender's, the rest evaluates. Without one, `heldout_share` of all images
    takes the place of the test part. Raises UserError when the dataset is missing, damaged or too small.
    """
    source = dataset_source(name)
    reader, path = _reader(source), source.local() or Path()
    reader.check(path, settings)
    training, heldout = reader.read(path, settings, on_progress)
    _check_images(name, training)
    if heldout is None:
        heldout, training = _divide(training, settings.heldout_share, seed)
    defender, evaluation = _divide(heldout, settings.defender_share, seed)
    return Split(training, defender, evaluation)


def _check_images(name: str, data: ImageData) -> None:
    """UserError when what was read cannot be a dataset: whatever reads it may be wrong about its files."""
    images, labels, classes = data.images, data.labels, len(data.class_names)
    if images.dtype != torch.uint8 or images.shape[1:2] != (3,) or images.ndim != 4 or len(images) != len(labels):
        raise UserError(f"{name} was not read as uint8 (n, 3, h, w) with n labels, but as {tuple(images.shape)}")
    if not len(images) or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(f"{name} has no images, or labels beside those of its {classes} classes")
    counts = torch.bincount(labels, minlength=classes).tolist()
    if missing := [class_name for class_name, count in zip(data.class_names, counts, strict=True) if not count]:
        raise UserError(f"{name} has no training picture of {', '.join(missing[:5])}: add some, or leave the class out")
    if all(torch.equal(image, images[0]) for image in images):
        raise UserError(
            f"all pictures of {name} are one and the same: they were saved wrong, or in a way not read here"
        )


def _reader(source: Source) -> DatasetReader:
    load_plugins()
    if source.reader not in READERS:
        raise _unknown(source.name)
    return READERS[source.reader]


def _unknown(name: str) -> UserError:
    return UserError(f"unknown dataset {name!r}: give one of {', '.join(descriptions())}")


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
