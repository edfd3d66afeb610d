"""Datasets as one uint8 tensor each, and their seeded, stratified split into training, defender's, evaluation data."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from untrigger.artifacts import read_json, read_tensors, write_json, write_tensors
from untrigger.errors import UserError
from untrigger.settings import DataSettings
from untrigger.stored_inputs import dataset_name, kept_copy

DESCRIPTIONS = {
    "digits": "scikit-learn's handwritten digits as 3x32x32, built in (1,797 images, 10 classes)",
    "cifar10[:PATH]": "CIFAR-10 in torchvision's layout below PATH (default: data); --download fetches it",
    "cifar100[:PATH]": "CIFAR-100, likewise",
    "parquet:PATH": "a folder of Parquet shards in the Hugging Face image layout (train-*.parquet, test-*.parquet)",
    "folder:PATH": "a folder of class folders, or of train/ and test/ with class folders in each",
    "s3://BUCKET/...": "one of these in an object store, as `untrigger store put` prints it",
}

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageData:
    """Images, uint8 (n, 3, h, w), their labels, int64 (n,), and the names of the classes."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageData:
        return ImageData(self.images.to(device), self.labels.to(device), self.class_names)

    def subset(self, chosen: Sequence[int] | np.ndarray) -> ImageData:
        index = torch.as_tensor(chosen)
        return ImageData(self.images[index], self.labels[index], self.class_names)


@dataclass(frozen=True)
class Split:
    """The three parts that no stage may mix: the attacker trains on one, the defender has one, one evaluates."""

    training: ImageData
    defender: ImageData
    evaluation: ImageData


def save_images(data: ImageData, folder: Path) -> None:
    """Write `images.safetensors` and `images.json` into `folder`."""
    write_tensors(folder / "images.safetensors", {"images": data.images, "labels": data.labels})
    write_json(folder / "images.json", {"class_names": list(data.class_names), "count": len(data)})


def load_images(folder: Path) -> ImageData:
    """Read what `save_images` wrote."""
    description = read_json(folder / "images.json")
    tensors = read_tensors(folder / "images.safetensors")
    return ImageData(tensors["images"], tensors["labels"], tuple(description["class_names"]))


def check_dataset(name: str, settings: DataSettings) -> None:
    """UserError when the dataset `name` is plainly not to be had; reads no images, but fetches a dataset in a store."""
    kind, _, place = dataset_name(name).partition(":")
    if kind == "digits" and not place:
        return
    if kind in ("cifar10", "cifar100"):
        _check_cifar(_cifar_files(kind), Path(place or "data"), settings)
    elif kind == "parquet" and place:
        for path in _parquet_files(Path(place)):
            _find_columns(path, settings)
    elif kind == "folder" and place:
        for part in _folder_parts(Path(place)):
            _class_names(part)
    else:
        raise UserError(f"unknown dataset {name!r}: give one of {', '.join(DESCRIPTIONS)}")


def dataset_files(name: str) -> list[Path]:
    """The files that the dataset `name` is read from; none for a built-in one, or one whose name says its content."""
    kind, _, place = name.partition(":")
    if kind == "parquet":
        return _parquet_files(Path(place))
    if kind == "folder":
        return sorted(path for path in Path(place).rglob("*") if path.is_file())
    if kind in ("cifar10", "cifar100"):
        return sorted((Path(place or "data") / _cifar_files(kind).base_folder).glob("*"))
    return []


def dataset_place(name: str) -> Path | None:
    """The file or folder that holds the dataset `name` and nothing else; None for a built-in one."""
    if name.startswith("s3://"):
        return kept_copy(name)
    kind, _, place = name.partition(":")
    if kind in ("cifar10", "cifar100"):
        return Path(place or "data") / _cifar_files(kind).base_folder
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
        "digits": lambda: (_read_digits(settings.image_size), None),
        "cifar10": lambda: _read_cifar("cifar10", Path(place or "data"), settings),
        "cifar100": lambda: _read_cifar("cifar100", Path(place or "data"), settings),
        "parquet": lambda: _read_parquet(Path(place), settings, on_progress),
        "folder": lambda: _read_folder(Path(place), settings, on_progress),
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


def _read_digits(size: int | None) -> ImageData:
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().images).float()[:, None] / 16
    enlarged = torch.nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    images = (enlarged * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(load_digits().target).long()
    return ImageData(_resized(images, size), labels, tuple(str(digit) for digit in range(10)))


# CIFAR in torchvision's on-disk layout


def _cifar_files(kind: str) -> Any:
    from untrigger.torchvision_import import datasets

    return datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100


def _check_cifar(files: Any, root: Path, settings: DataSettings) -> None:
    if not (root / files.base_folder).is_dir() and not settings.download:
        raise UserError(
            f"{files.__name__} is not below {root}: {root / files.base_folder} does not exist; "
            "add --download to fetch it, or name the folder (cifar10:PATH)"
        )


def _read_cifar(kind: str, root: Path, settings: DataSettings) -> tuple[ImageData, ImageData]:
    files = _cifar_files(kind)
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
        return ImageData(_resized(images, settings.image_size), labels, class_names)

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

    if not path.is_file():
        raise UserError(f"{path} is missing: the dataset is incomplete; delete the folder and download it again")
    if not check_integrity(str(path), md5):
        raise UserError(f"{path} is damaged (its md5 sum is not {md5}): delete the folder and download it again")
    with path.open("rb") as file:
        return ArraysOnlyUnpickler(file, encoding="bytes").load()


class ArraysOnlyUnpickler(pickle.Unpickler):
    """Decodes numpy arrays and plain values; any other name in the stream is refused, so no code can run."""

    ALLOWED = {("_reconstruct", "multiarray"), ("ndarray", "numpy"), ("dtype", "numpy")}

    def find_class(self, module: str, name: str) -> Any:
        if (name, module.rpartition(".")[2]) not in self.ALLOWED or module.split(".")[0] != "numpy":
            raise UserError(f"the dataset file names {module}.{name}, which is not an array: it is not opened")
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        return getattr(np, name)


# Parquet shards in the Hugging Face image layout


def _parquet_files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"the dataset folder {path} does not exist")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no .parquet file")
    return files


def _read_parquet(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    files = _parquet_files(path)
    test_files = [file for file in files if file.name.startswith("test")]
    if len(test_files) == len(files):
        test_files = []
    train_files = [file for file in files if file.name.startswith("train")] if test_files else files
    if not train_files:
        raise UserError(f"{path} has test shards but none whose name begins with train")
    training = _read_shards(train_files, settings)
    test = _read_shards(test_files, settings)
    names = _parquet_class_names(files[0], settings)
    classes = names or tuple(str(label) for label in range(max(training.labels + test.labels) + 1))
    return _decoded_parts(training, test, classes, settings.image_size, on_progress)


@dataclass(frozen=True)
class _Encoded:
    """Images not yet decoded: where each one stands (for messages), its bytes, its label."""

    places: list[str]
    contents: list[bytes | Path]
    labels: list[int]


def _read_shards(files: list[Path], settings: DataSettings) -> _Encoded:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _Encoded([], [], [])
    for file in files:
        image_column, label_column = _find_columns(file, settings)
        try:
            table = pq.read_table(file, columns=[image_column, label_column])
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        values, labels = table[image_column].to_pylist(), table[label_column].to_pylist()
        for row, (value, label) in enumerate(zip(values, labels, strict=True)):
            place = f"row {row} of {file}"
            content = value["bytes"] if isinstance(value, dict) else value
            if content is None:
                raise UserError(f"{place} has no image bytes in the column {image_column}")
            if label is None or label < 0:
                raise UserError(f"{place} has the label {label}: labels are whole numbers from 0")
            rows.places.append(place)
            rows.contents.append(content)
            rows.labels.append(label)
    return rows


def _find_columns(file: Path, settings: DataSettings) -> tuple[str, str]:
    import pyarrow as pa

    def holds_images(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    schema = _parquet_schema(file)
    images = _one_column(schema, settings.image_column, holds_images, "image", file)
    return images, _one_column(schema, settings.label_column, pa.types.is_integer, "label", file)


def _one_column(schema: Any, given: str | None, fits: Callable[[Any], bool], what: str, file: Path) -> str:
    fitting = [field.name for field in schema if fits(field.type)]
    remedy = f"name it with --data.{what}-column (columns: {', '.join(schema.names)})"
    if given is not None:
        if given not in schema.names:
            raise UserError(f"{file} has no column {given!r}: {remedy}")
        if given not in fitting:
            raise UserError(f"the column {given!r} of {file} does not hold {what}s: {remedy}")
        return given
    if len(fitting) != 1:
        found = f"{len(fitting)} columns that could hold {what}s" if fitting else f"no column that holds {what}s"
        raise UserError(f"{file} has {found}: {remedy}")
    return fitting[0]


def _parquet_schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file} is not a Parquet file: {error}") from error


def _parquet_class_names(file: Path, settings: DataSettings) -> tuple[str, ...] | None:
    """The class names that Hugging Face datasets keep in the schema's metadata, if there are any."""
    metadata = (_parquet_schema(file).metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        feature = json.loads(metadata)["info"]["features"][_find_columns(file, settings)[1]]
        return tuple(feature["names"])
    except (ValueError, KeyError, TypeError):
        return None


# Folders of class folders


def _folder_parts(path: Path) -> list[Path]:
    """The train and test folders below `path`, or `path` itself when it has no such pair."""
    if not path.is_dir():
        raise UserError(f"the dataset folder {path} does not exist")
    pair = [path / "train", path / "test"]
    return pair if all(part.is_dir() for part in pair) else [path]


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(names) < 2:
        raise UserError(f"{path} needs at least two class folders with images in them, found {len(names)}")
    return names


def _read_folder(
    path: Path, settings: DataSettings, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    parts = _folder_parts(path)
    classes = _class_names(parts[0])
    training = _list_folder(parts[0], classes)
    test = _list_folder(parts[1], classes) if len(parts) == 2 else _Encoded([], [], [])
    return _decoded_parts(training, test, classes, settings.image_size, on_progress)


def _list_folder(path: Path, classes: tuple[str, ...]) -> _Encoded:
    if _class_names(path) != classes:
        raise UserError(
            f"the class folders of {path} must be {', '.join(classes)}, found {', '.join(_class_names(path))}"
        )
    listed = _Encoded([], [], [])
    for label, name in enumerate(classes):
        for file in sorted((path / name).iterdir()):
            if file.is_file() and file.suffix.lower() in Image.registered_extensions():
                listed.places.append(str(file))
                listed.contents.append(file)
                listed.labels.append(label)
    if not listed.labels:
        raise UserError(f"the class folders of {path} hold no pictures")
    return listed


# Decoding


def _decoded_parts(
    training: _Encoded, test: _Encoded, classes: tuple[str, ...], size: int | None, on_progress: OnProgress | None
) -> tuple[ImageData, ImageData | None]:
    both = _Encoded(training.places + test.places, training.contents + test.contents, training.labels + test.labels)
    if not both.labels:
        raise UserError("the dataset holds no images")
    if max(both.labels) >= len(classes):
        place = both.places[both.labels.index(max(both.labels))]
        raise UserError(f"{place} has the label {max(both.labels)}, but the dataset names only {len(classes)} classes")
    images = _decode(both, size, on_progress)
    labels = torch.tensor(both.labels)
    cut = len(training.labels)
    first = ImageData(images[:cut], labels[:cut], classes)
    return first, ImageData(images[cut:], labels[cut:], classes) if test.labels else None


def _decode(encoded: _Encoded, size: int | None, on_progress: OnProgress | None) -> Tensor:
    """All images as one uint8 tensor (n, 3, h, w); the threads overlap, since Pillow decodes without the GIL."""

    def decode(place: str, content: bytes | Path) -> np.ndarray:
        try:
            with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as picture:
                coloured = picture.convert("RGB")
        except Exception as error:  # Pillow raises errors of many kinds over damaged or hostile bytes
            raise UserError(f"{place} does not hold a readable image: {str(error).split(' <')[0]}") from error
        return np.asarray(coloured if size is None else coloured.resize((size, size), Image.Resampling.BILINEAR))

    pixels: np.ndarray | None = None
    with ThreadPoolExecutor() as threads:
        for index, image in enumerate(threads.map(decode, encoded.places, encoded.contents)):
            if pixels is None:
                pixels = np.empty((len(encoded.labels), *image.shape), dtype=np.uint8)
            if image.shape != pixels.shape[1:]:
                raise UserError(
                    f"{encoded.places[index]} is {image.shape[1]}x{image.shape[0]} pixels, earlier images are "
                    f"{pixels.shape[2]}x{pixels.shape[1]}: bring all to one size with --data.image-size"
                )
            pixels[index] = image
            if on_progress is not None:
                on_progress(index + 1, len(encoded.labels))
    assert pixels is not None
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = (
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear").round().to(torch.uint8)
        for part in images.split(1000)
    )
    return torch.cat(list(resized))
