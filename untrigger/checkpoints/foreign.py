"""A model file of somebody else as a classifier of ours: recognised, checked, and normalised as it answers best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from untrigger.artifacts import write_tensors
from untrigger.checkpoints.dialects import Match, difference_from, first_difference, recognised
from untrigger.checkpoints.onnx_graphs import read_onnx, write_onnx
from untrigger.checkpoints.reading import file_kind, read_checkpoint
from untrigger.checkpoints.unwrapping import state_of
from untrigger.classifiers import Classifier, normalisation
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError, shown_name
from untrigger.metrics import predict
from untrigger.settings.methods import AS_IN_FILE, ClassifierSettings
from untrigger.settings.normalisations import DATA, NORMALISATIONS

FOREIGN_FILES = TENSORS_FILE, GRAPH_FILE = "model.safetensors", "model.onnx"
"""What a model is written back as."""

COMPARED_IMAGES = 500
"""On so many images normalisations are compared: all on the same ones, so that differences are surer than shares."""


@dataclass(frozen=True)
class Candidate:
    """One reading of a file: the network and its normalisation; `accuracy` on the images given, in [0, 1]."""

    settings: ClassifierSettings
    accuracy: float

    def __str__(self) -> str:
        return f"{self.settings.architecture} normalised by {self.settings.normalisation}, {100 * self.accuracy:.1f} %"


@dataclass(frozen=True)
class ForeignModel:
    """What was recognised in a file; its `kind` is how it was written. state: all its tensors by the file's names."""

    path: Path
    kind: str
    match: Match
    state: dict[str, Tensor]

    def classifier(self, settings: ClassifierSettings, images: Tensor) -> Classifier:
        """The file read as `settings` say, in evaluation mode, where `images`, uint8 (n, 3, h, w), are."""
        mean, std = normalisation(settings.normalisation or DATA, images)
        made = Classifier(settings, self.match.classes, mean, std, self.match.graph)
        made.network.load_state_dict(self.match.state, strict=False)  # only counters may lack: shapes were compared
        return made.to(images.device).eval()

    def candidates(self, settings: ClassifierSettings, images: ImageData, rng: torch.Generator) -> list[Candidate]:
        """Every reading of the file by its accuracy on some of `images`, the best first, the likelier one of equals.

        A normalisation that `settings` state is taken. Raises UserError when the classes are not as many.
        """
        if self.match.classes != len(images.class_names):
            raise UserError(
                f"the classifier {self.path} has {self.match.classes} classes, the dataset has "
                f"{len(images.class_names)}"
            )
        some = images.subset(torch.randperm(len(images), generator=rng)[:COMPARED_IMAGES].numpy())
        found = []
        for architecture in self.match.architectures:
            for name in (settings.normalisation,) if settings.normalisation else (*NORMALISATIONS, DATA):
                read = self.match.read_as(architecture, settings).model_copy(update={"normalisation": name})
                exact = self.classifier(read.model_copy(update={"precision": "fp32"}), images.images)
                right = predict(exact, some.images).argmax(1) == some.labels
                found.append(Candidate(read, right.double().mean().item()))
        return sorted(found, key=lambda candidate: -candidate.accuracy)

    def write(self, classifier: Classifier, folder: Path) -> Path:
        """Write `classifier`, made by this, as the file was: its tensors by its names, or its graph with new tensors.

        Returns the file, `model.safetensors` or `model.onnx`.
        """
        if self.match.graph is not None:
            return write_onnx(self.path, classifier.network.state_dict(), folder / GRAPH_FILE)
        write_tensors(folder / TENSORS_FILE, self.rewritten(classifier))
        return folder / TENSORS_FILE

    def rewritten(self, classifier: Classifier) -> dict[str, Tensor]:
        """The tensors of `classifier`, made by this, by the names and in the types of the file; counters stay."""
        trained = classifier.network.state_dict()
        changed = {
            origin: trained[own].to("cpu", self.state[origin].dtype) for own, origin in self.match.origins.items()
        }
        return {name: changed.get(name, tensor).clone() for name, tensor in self.state.items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """The network's tensors in a model file by the names that they have there.

    UserError when there are none, or when the file is one of ours, which says less than its folder.
    """
    state = state_of(read_checkpoint(path))
    if state is None:
        raise UserError(f"{path} holds no state dict: save torch.save(model.state_dict(), FILE)")
    if state.keys() >= {"mean", "std"} and any(name.startswith("network.") for name in state):
        raise UserError(f"{path} is a part of a classifier that a run left: give the folder with its classifier.json")
    for name, tensor in state.items():
        if name != shown_name(name):
            raise UserError(f"{path} holds a tensor by a name that no network gives: {shown_name(name)}")
        if not _is_stored(tensor):
            raise UserError(
                f"{path} does not hold all of {name} as plain numbers: save the weights dense and unquantised"
            )
    return state


def check_foreign(path: Path) -> None:
    """UserError when a model file cannot be read at all; what network it holds is not asked."""
    if file_kind(path) == "ONNX":
        read_onnx(path)
    else:
        read_state(path)


def read_foreign(path: Path, given: ClassifierSettings | None = None, classes: int = 0) -> ForeignModel:
    """Recognise the network in a model file; `given` may name its architecture, one of the user's own, too.

    That one is for so many classes. Raises UserError when nothing is recognised, or another than `given` names, when
    the weights are no finite numbers, or as `read_state` does.
    """
    kind = file_kind(path)
    if kind == "ONNX":
        match, state = read_onnx(path), {}
    else:
        state = read_state(path)
        match = _recognised(path, state, given, classes)
    for name, tensor in match.state.items():
        if not _is_stored(tensor) or not tensor.is_floating_point():
            raise UserError(
                f"{path} does not hold all of {name} as plain numbers: save the weights dense and unquantised"
            )
        if not bool(tensor.float().isfinite().all()):
            raise UserError(f"the weights in {path} are not all finite numbers, {name} is not: they cannot answer")
    return ForeignModel(path, kind, match, state)


def _recognised(path: Path, state: dict[str, Tensor], given: ClassifierSettings | None, classes: int) -> Match:
    match = recognised(state, given, classes)
    if match is not None:
        return match
    if given is not None and given.architecture != AS_IN_FILE and (other := recognised(state)) is not None:
        raise UserError(
            f"{path} holds no {given.architecture}, which --classifier.architecture names, but a "
            f"{' or '.join(other.architectures)} as {other.dialect} names it: leave the option out"
        )
    if given is not None and given.architecture != AS_IN_FILE:
        raise UserError(
            f"{path} holds no {given.architecture}, which --classifier.architecture names: "
            f"{difference_from(state, given, classes)}"
        )
    name, tensor = next(iter(state.items()), ("nothing", torch.zeros(0)))
    difference = first_difference(state)
    told = f"its names are those {difference}" if difference else f"its first tensor: {name} {tuple(tensor.shape)}"
    raise UserError(
        f"{path} holds no network that is known ({told}): ResNet-18, ResNet-34, pre-activation ResNet-18 and small "
        "VGGs, of 8 channels or more that double as theirs do, are, and yours if you register it in a module that "
        "UNTRIGGER_PLUGINS names and give its name as --classifier.architecture"
    )


def _is_stored(tensor: Tensor) -> bool:
    """Whether every number of it is stored: a tensor may be expanded from one number to any size."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
