"""The classifiers under attack; normalisation of the input is a part of the model."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.errors import UserError, UserNotice
from untrigger.networks.architectures import build_network, is_built_in
from untrigger.networks.devices import fast_in_bf16
from untrigger.networks.frozen import answers_of, fold_batch_norms, window_convolutions, window_path
from untrigger.networks.graph_network import GraphNetwork, NetworkGraph
from untrigger.networks.initialisation import initialise
from untrigger.networks.patch_gradients import Moving, gradients_in_patches
from untrigger.seeding import moved
from untrigger.settings.base import Sparse, Stored
from untrigger.settings.methods import ClassifierSettings
from untrigger.settings.normalisations import DATA, stated_normalisation
from untrigger.triggers import draw_positions, stamp

COMPARED_IMAGES = 4

TEMPERED_BY = 256
"""Images by which the scale of logits is judged."""

MARGIN = 7.0
"""A usual median of the difference between the largest logit and the next: that of the demo's classifiers, in nats."""

PIXELS_AT_ONCE = 1024 * 32 * 32
"""Of all pictures in one pass without training: 1,024 of CIFAR's, 20 of 224 pixels."""


class Classifier(nn.Module):
    """Images, float (n, 3, h, w) in [0, 1] or uint8, to logits, float32 (n, classes).

    `mean` and `std` are the training images' channel statistics, (3,) each, saved with the weights. The network
    computes in bf16 or fp32 as `settings.precision` says; weights in training, normalisation statistics and logits are
    fp32 always. A `graph` takes the place of the architecture.
    """

    mean: Tensor
    std: Tensor
    temperature: float = 1.0
    """What the network's logits are divided by; it is not saved with the weights (see `tempered`)."""
    _windowed_path: Sequence[Moving] = ()

    def __init__(
        self,
        settings: ClassifierSettings,
        classes: int,
        mean: Tensor,
        std: Tensor,
        graph: NetworkGraph | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.classes = classes
        self.graph = graph
        self.register_buffer("mean", mean.clone().float())
        self.register_buffer("std", std.clone().float())
        self.network = build_network(settings, classes) if graph is None else GraphNetwork(graph)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types no module formats

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """The network's input for images, or triggers, as `forward` takes them: its precision, channels last."""
        scale = 1 / self.std if images.is_floating_point() else 1 / (255 * self.std)
        shift = self.mean / self.std
        normalised = images * scale[:, None, None] - shift[:, None, None]
        return normalised.to(self.compute_type(), memory_format=torch.channels_last)

    def classify(self, normalised: Tensor) -> Tensor:
        """Logits, float32 (n, classes), of what `normalise` returns."""
        return self._in_parts(self._logits, normalised)

    def classify_stamped(self, images: Tensor, triggers: Tensor, positions: Tensor | torch.Generator) -> Tensor:
        """Logits of `images`, as `forward` takes them, with a trigger stamped on each; differentiable in `triggers`.

        triggers: float (n, 3, th, tw), or (1, 3, th, tw) for all; clipped to [0, 1]. positions: as in `stamp`.
        """
        if isinstance(positions, torch.Generator):
            positions = draw_positions(len(images), images, triggers.shape[2:], positions)
        return self.classify_patched(self.normalise(images), triggers, moved(positions, images.device))

    def classify_patched(self, normalised: Tensor, triggers: Tensor, positions: Tensor) -> Tensor:
        """As `classify_stamped`, of images that are normalised already, on whose device `positions` are."""
        count = len(normalised)
        triggers, positions = triggers.expand(count, -1, -1, -1), positions.expand(count, -1)
        return self._in_parts(self._logits_patched, normalised, triggers, positions)

    def _logits(self, normalised: Tensor) -> Tensor:
        with torch.autocast(normalised.device.type, torch.bfloat16, enabled=normalised.dtype == torch.bfloat16):
            return self.network(normalised).float() / self.temperature

    def _logits_patched(self, normalised: Tensor, triggers: Tensor, positions: Tensor) -> Tensor:
        size = (triggers.shape[2], triggers.shape[3])
        stamped = stamp(normalised, self.normalise(triggers.clamp(0, 1)), positions)
        path = self._windowed_path if torch.is_grad_enabled() else ()
        with gradients_in_patches(path, stamped, positions, size):
            return self.classify(stamped)

    def _in_parts(self, logits: Callable[..., Tensor], pictures: Tensor, *others: Tensor) -> Tensor:
        """`logits` of pictures, so many at a time that large ones need no more memory than small ones.

        Where gradients are wanted each part is computed again on the way back. In training all pictures of a batch
        share their statistics, and stay together.
        """
        at_once = pictures_at_once(pictures)
        if self.training or len(pictures) <= at_once:
            return logits(pictures, *others)
        if torch.is_grad_enabled():
            logits = partial(checkpoint, logits, use_reentrant=False, preserve_rng_state=False)
        parts = zip(pictures.split(at_once), *(other.split(at_once) for other in others), strict=True)
        return torch.cat([logits(*part) for part in parts])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities of its logits, float (n, classes); UserError when one is NaN or infinite.

        Their largest would still name a class, and make rates of it that mean nothing.
        """
        broken = int((~logits.isfinite().all(1)).sum())
        if broken:
            raise UserError(
                f"the classifier ({self.settings.architecture}) answers {broken} of {len(logits)} images with logits "
                "that are NaN or infinite, so that no rate can be measured: train it anew at a lower learning rate, or "
                "with classifier.precision fp32"
            )
        return logits.softmax(1)

    def compute_type(self) -> torch.dtype:
        """The precision that the network computes in."""
        return torch.bfloat16 if self.settings.precision == "bf16" else torch.float32


def tempered(classifier: Classifier, images: Tensor) -> Classifier:
    """The same classifier with logits of the usual scale, sharing its weights.

    No answer depends on the scale of the logits, but searches do: they descend a cross-entropy, which is flat where the
    scale is so large that all probabilities are 0 or 1, and where it is next to nothing. Whoever made the file chose
    the scale, so all models are compared at the same one: the median margin of the logits on the first of the images,
    uint8 (n, 3, h, w), is MARGIN. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, call what they are
    divided by a temperature.
    """
    scaled = copy.copy(classifier)
    with torch.inference_mode():
        first, second = classifier(images[:TEMPERED_BY]).double().topk(min(2, classifier.classes)).values[:, [0, -1]].T
    margin = (first - second).median().item()
    if math.isfinite(margin) and margin > 0:
        scaled.temperature = classifier.temperature * margin / MARGIN
    return scaled


def pictures_at_once(pictures: Tensor) -> int:
    """How many pictures like these, (n, 3, h, w), pass a classifier at a time without training."""
    return max(1, PIXELS_AT_ONCE // (pictures.shape[2] * pictures.shape[3]))


def new_classifier(settings: ClassifierSettings, classes: int, images: Tensor, rng: torch.Generator) -> Classifier:
    """An untrained classifier that normalises as its settings say, or by the channel statistics of `images`.

    images: uint8 (n, 3, h, w). Precision `auto` is decided here, once, and saved with the classifier: all stages
    compute alike, wherever they run.
    """
    mean, std = normalisation(settings.normalisation or DATA, images)
    with torch.random.fork_rng(devices=[]):
        # What `initialise` does not know, a registered network may draw from torch's global randomness.
        torch.manual_seed(rng.initial_seed())
        classifier = Classifier(with_precision(settings, images.device), classes, mean, std)
    initialise(classifier, rng)
    return classifier.to(images.device)


def with_precision(settings: ClassifierSettings, device: torch.device) -> ClassifierSettings:
    """The settings with the precision `auto` decided for `device`."""
    if settings.precision != "auto":
        return settings
    return settings.model_copy(update={"precision": "bf16" if fast_in_bf16(device.type) else "fp32"})


def normalisation(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (3,) each, that `classifier.normalisation` names; data: of `images`."""
    stated = stated_normalisation(name)
    return channel_statistics(images) if stated is None else (torch.tensor(stated[0]), torch.tensor(stated[1]))


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (3,) each, of uint8 images (n, 3, h, w) scaled to [0, 1]."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(images[:, c].flatten().int(), minlength=256) for c in range(3)]).cpu()
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ levels
    std = (shares @ levels**2 - mean**2).clamp_min(1e-4).sqrt()
    return mean.float(), std.float()


def frozen(classifier: Classifier, images: Tensor) -> Classifier:
    """A copy for use without training: evaluation mode, no gradients into weights, what makes it fast where it may be.

    Its weights are in the precision of the computation. images: (n, 3, h, w), of those that it will see: on the first
    few it is compared with the network as it is, in fp32. Where answers or the gradient of a patch differ by more than
    rounding, as they may where norms come first or layers are registered in another order, norms are not folded, or
    gradients not restricted to windows; where no way is left, the copy stays as it is, with the warning UserNotice.
    """
    plain = copy.deepcopy(classifier).eval().requires_grad_(False)
    normalised = plain.normalise(images[:COMPARED_IMAGES]).float()
    exact = answers_of(plain.network, (), normalised)
    for folded, windowed in _fast_ways(plain.mean.device):
        try:
            fast = _fast_copy(plain, folded=folded, windowed=windowed)
            found = answers_of(fast.network, fast._windowed_path, normalised)
        except Exception:  # a network that was not made for this may fail in any way
            continue
        if exact.same(found):
            fast.network.to(fast.compute_type(), memory_format=torch.channels_last)  # type: ignore[call-overload]
            return fast
    name = classifier.settings.architecture
    warnings.warn(f"{name} does not allow the fast paths: it runs as it is, slower", UserNotice, stacklevel=2)
    return plain


def _fast_ways(device: torch.device) -> Sequence[tuple[bool, bool]]:
    """Whether to fold norms, and whether to take windows, the fastest first; a GPU gains nothing by windows."""
    return ((True, True), (True, False), (False, True)) if device.type == "cpu" else ((True, False),)


def _fast_copy(plain: Classifier, *, folded: bool, windowed: bool) -> Classifier:
    fast = copy.deepcopy(plain)
    if folded:
        fold_batch_norms(fast.network)
    if windowed:
        window_convolutions(fast.network)
        fast._windowed_path = window_path(fast.network)
    return fast


class ClassifierDescription(Sparse, Stored):
    """What `classifier.json` says; a `graph` where the network is none that a name stands for."""

    FILE = "classifier.json"

    classes: int = Field(ge=1, le=2**20)
    settings: ClassifierSettings
    graph: NetworkGraph | None = None


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write `classifier.safetensors` and `classifier.json` into `folder`."""
    write_tensors(folder / "classifier.safetensors", classifier.state_dict())
    description = ClassifierDescription(
        classes=classifier.classes, settings=classifier.settings, graph=classifier.graph
    )
    description.save(folder)


def load_classifier(folder: Path, device: torch.device | None = None) -> Classifier:
    """Read what `save_classifier` wrote, in evaluation mode.

    Strict: UserError when a tensor is missing, unknown, of another shape or not finite, or when mean and standard
    deviation are not of pixels in [0, 1].
    """
    description = ClassifierDescription.load(folder)
    file, settings = folder / "classifier.safetensors", description.settings
    tensors = read_tensors(file)
    if description.graph is None and is_built_in(settings.architecture):
        # A description may claim any size: it is held against the tensors before anything of that size is made.
        with torch.device("meta"):
            draft = Classifier(settings, description.classes, torch.zeros(3), torch.ones(3))
        if misfit := _misfit(draft.state_dict(), tensors):
            raise UserError(f"{file} does not hold a {settings.architecture}: {misfit}")
    classifier = Classifier(settings, description.classes, torch.zeros(3), torch.ones(3), description.graph)
    if misfit := _misfit(classifier.state_dict(), tensors):
        raise UserError(f"{file} does not hold a {settings.architecture}: {misfit}")
    classifier.load_state_dict(tensors, strict=True)
    mean, std = classifier.mean, classifier.std
    if not bool(((mean >= 0) & (mean <= 1) & (std > 0) & (std <= 1)).all()):
        got = " and ".join(", ".join(f"{value:.3g}" for value in part.tolist()) for part in (mean, std))
        raise UserError(f"{file}: mean and std must be those of pixels in [0, 1], and std above 0, got {got}")
    return classifier.to(device or torch.device("cpu")).eval()


_FOREIGN_NAMES = {
    "a network by itself": {},
    "DataParallel": {"module.": ""},
    "torch.compile": {"_orig_mod.": ""},
    "many a repository for CIFAR": {".linear.": ".fc.", ".shortcut.": ".downsample."},
}
"""Where the names of tensors may come from, what they hold then, and what they must hold here."""


def _misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What sets the names and shapes of `found` apart from the expected ones, in some words; "" where nothing does."""
    # Old files lack the counters, which nothing uses; torch takes that.
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in expected]
    for name, (whose, parts) in itertools.product(unknown, _FOREIGN_NAMES.items()):
        for renamed in (name, f"network.{name}"):
            for part, ours in parts.items():
                renamed = renamed.replace(part, ours)
            if renamed in missing:
                return f"its tensors are called as {whose} has them, rename {name} to {renamed}, and all others alike"
    if missing or unknown:
        told = [f"{kind} {', '.join(names[:3])}" for kind, names in (("lacks", missing), ("has", unknown)) if names]
        return f"its file {' and '.join(told)}" + (" and more" if max(len(missing), len(unknown)) > 3 else "")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            return f"{name} has the shape {tuple(tensor.shape)} and not {tuple(expected[name].shape)}"
    return ""
