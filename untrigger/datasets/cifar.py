"""CIFAR in torchvision's layout on disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from untrigger.datasets.decoding import OnProgress, resized
from untrigger.datasets.images import ImageData
from untrigger.datasets.registry import register_dataset
from untrigger.errors import UserError
from untrigger.settings.methods import DataSettings


def _published(kind: str) -> Any:
    from untrigger.networks.torchvision_import import datasets

    return datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100


def register_cifar(name: str, description: str) -> None:
    """Make CIFAR known as `name`, cifar10 or cifar100."""

    def read(root: Path, settings: DataSettings, on_progress: OnProgress | None) -> tuple[ImageData, ImageData]:
        return _read_cifar(name, root, settings)

    def check(root: Path, settings: DataSettings) -> None:
        files = _published(name)
        if not (root / files.base_folder).is_dir() and not settings.download:
            raise UserError(
                f"{files.__name__} is not below {root}: {root / files.base_folder} does not exist; "
                f"add --download to fetch it, or name the folder ({name}:PATH)"
            )

    def listed(root: Path) -> list[Path]:
        files = _published(name)
        names = [files.meta["filename"], *(file for file, _ in (*files.train_list, *files.test_list))]
        folder = root / files.base_folder
        return [_there(folder / file) for file in names] if folder.is_dir() else []

    register_dataset(name, read, description=description, default_path="data", files=listed, check=check, verified=True)


def _read_cifar(kind: str, root: Path, settings: DataSettings) -> tuple[ImageData, ImageData]:
    files = _published(kind)
    folder = root / files.base_folder
    if not folder.is_dir():
        _download_cifar(files, root)
    names = _read_checked(folder / files.meta["filename"], files.meta["md5"])[files.meta["key"].encode()]
    class_names = tuple(name.decode() for name in names)
    key = b"labels" if kind == "cifar10" else b"fine_labels"

    def part(listed: list[list[str]]) -> ImageData:
        batches = [_read_checked(folder / file, md5) for file, md5 in listed]
        images = torch.from_numpy(np.concatenate([batch[b"data"] for batch in batches])).reshape(-1, 3, 32, 32)
        labels = torch.tensor([label for batch in batches for label in batch[key]])
        return ImageData(resized(images, settings.image_size), labels, class_names)

    return part(files.train_list), part(files.test_list)


def _download_cifar(files: Any, root: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(files.url, str(root), filename=files.filename, md5=files.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot download {files.__name__} to {root}: {error}") from error


def _read_checked(path: Path, md5: str) -> dict[bytes, Any]:
    """The content of one CIFAR batch file, whose md5 sum must be the published one.

    The files are pickles, written once by the dataset's authors. They are decoded by an unpickler that can build
    arrays and plain values and nothing else, and only after the sum has been checked.
    """
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(_there(path)), md5):
        raise UserError(f"{path} is damaged (its md5 sum is not {md5}): delete the folder and download it again")
    with path.open("rb") as file:
        return ArraysOnlyUnpickler(file, encoding="bytes").load()


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is missing: the dataset is incomplete; delete the folder and download it again")
    return path


class ArraysOnlyUnpickler(pickle.Unpickler):
    """Decodes numpy arrays and plain values; any other name in the stream is refused, so no code can run."""

    ALLOWED = {("_reconstruct", "multiarray"), ("ndarray", "numpy"), ("dtype", "numpy")}

    def find_class(self, module: str, name: str) -> Any:
        if (name, module.rpartition(".")[2]) not in self.ALLOWED or module.split(".")[0] != "numpy":
            raise UserError(f"the dataset file names {module}.{name}, which is not an array: it is not opened")
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        return getattr(np, name)
