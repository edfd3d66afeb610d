"""Networks by name, and those of the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier, frozen, load_classifier, new_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError, UserNotice
from untrigger.networks import architectures
from untrigger.networks.architectures import check_architecture, register_architecture
from untrigger.networks.patch_gradients import WindowedConvolution
from untrigger.plugins import PLUGINS
from untrigger.settings.methods import ClassifierSettings
from untrigger.triggers import draw_positions


class Network(nn.Module):
    """A stem, one block, pooling, and a linear layer whose bias `initialise` does not know."""

    def __init__(self, block: nn.Module, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.block = block
        self.fc = nn.Linear(8, classes)
        self.shift = nn.Parameter(torch.randn(classes))

    def forward(self, images: Tensor) -> Tensor:
        features = self.block(torch.relu(self.bn1(self.conv1(images))))
        return self.fc(torch.relu(features).mean((2, 3))) + self.shift


class Plain(nn.Module):
    """As the built-in networks are made: every norm behind the convolution of its number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.bn1(self.conv1(features))


class PreActivation(nn.Module):
    """Every norm before the convolution of its number (He et al., 2016b): folding them changes the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv1(torch.relu(self.bn1(features)))


class ProjectionFirst(nn.Module):
    """Its shortcut is registered before its other convolutions: the path through the network is not as it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(8, 8, 1, stride=2, bias=False)
        self.first = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.projection(features) + self.second(torch.relu(self.first(features)))


class PaddedByWord(nn.Module):
    """Its convolution is padded by a word, which the window's geometry does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features)


class Pooled(nn.Module):
    """Convolutions of a sequence, each before its norm, with pools between them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ELU(), nn.AvgPool2d((3, 3), stride=1, padding=1)),
            nn.Conv2d(8, 8, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.features(features)


class RoundedUp(nn.Module):
    """Its pool has a last row and column that reach over the edge, which the window's geometry does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv2(torch.relu(self.pool(torch.relu(self.bn1(self.conv1(features))))))


class NormsOfTheBatch(nn.Module):
    """Its norm keeps no statistics: every picture counts in the answers to the others."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, track_running_stats=False))

    def forward(self, features: Tensor) -> Tensor:
        return self.features(features)


class NeitherWay(nn.Module):
    """Norms before convolutions, and a shortcut that is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.normed, self.aside = PreActivation(), ProjectionFirst()

    def forward(self, features: Tensor) -> Tensor:
        return self.aside(self.normed(features))


BLOCKS = {
    block.__name__: block
    for block in (Plain, Pooled, PreActivation, ProjectionFirst, PaddedByWord, RoundedUp, NormsOfTheBatch, NeitherWay)
}


def building(block: type[nn.Module]) -> Callable[[ClassifierSettings, int], nn.Module]:
    return lambda settings, classes: Network(block(), classes)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_BUILDS", dict(architectures._BUILDS))
    for name, block in BLOCKS.items():
        register_architecture(name, building(block))


def make(name: str, images: Tensor, seed: int = 0) -> Classifier:
    """An untrained one whose norms have statistics that folding has to respect."""
    settings = ClassifierSettings(architecture=name, precision="fp32")
    made = new_classifier(settings, 3, images, torch.Generator().manual_seed(seed)).eval()
    rng = torch.Generator().manual_seed(5)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
            part.running_mean = torch.rand(part.num_features, generator=rng)
            part.running_var = 0.5 + torch.rand(part.num_features, generator=rng)
    return made


def patch_gradient(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of stamped images, and the gradient of one log-probability with respect to one trigger per image."""
    triggers = torch.rand(len(images), 3, 3, 3, generator=torch.Generator().manual_seed(4)).requires_grad_()
    positions = draw_positions(len(images), images, (3, 3), torch.Generator().manual_seed(6))
    logits = classifier.classify_stamped(images, triggers, positions)
    (gradient,) = torch.autograd.grad(logits.log_softmax(1)[:, 0].sum(), triggers)
    return logits.detach(), gradient


@pytest.mark.parametrize("name", BLOCKS)
def test_a_frozen_network_answers_as_it_did_whatever_it_is_made_of(name: str, tiny_images: ImageData) -> None:
    classifier = make(name, tiny_images.images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserNotice)
        fixed = frozen(classifier, tiny_images.images)
    images = tiny_images.images[20:60]
    for exact, found in zip(patch_gradient(classifier, images), patch_gradient(fixed, images), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    assert not any(parameter.requires_grad for parameter in fixed.parameters())


def test_a_network_that_does_not_allow_the_fast_paths_runs_as_it_is_and_that_is_said(tiny_images: ImageData) -> None:
    with pytest.warns(UserNotice, match="NeitherWay does not allow the fast paths"):
        fixed = frozen(make("NeitherWay", tiny_images.images), tiny_images.images)
    assert ways(fixed) == (False, False)


@pytest.mark.parametrize(
    ("name", "folded", "windowed"),
    [
        *((name, True, True) for name in ("Plain", "Pooled", "small_resnet", "resnet18", "resnet18_7x7", "vgg11_bn")),
        *((name, False, True) for name in ("PreActivation", "NormsOfTheBatch", "preact_resnet18")),
        *((name, True, False) for name in ("ProjectionFirst", "PaddedByWord", "RoundedUp")),
    ],
)
def test_a_network_takes_the_fast_paths_that_it_allows(
    name: str, folded: bool, windowed: bool, tiny_images: ImageData
) -> None:
    images = nn.functional.interpolate(tiny_images.images.float(), 32).to(torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserNotice)
        fixed = frozen(make(name, images), images)
    assert ways(fixed) == (folded, windowed)


def ways(fixed: Classifier) -> tuple[bool, bool]:
    """Whether norms are folded, and whether gradients are restricted to windows."""
    parts = list(fixed.modules())
    return not any(isinstance(part, nn.BatchNorm2d) for part in parts), any(
        isinstance(part, WindowedConvolution) for part in parts
    )


def test_a_registered_network_gets_the_same_weights_from_the_same_seed_whatever_the_global_state(
    tiny_images: ImageData,
) -> None:
    torch.manual_seed(1)
    first = make("Plain", tiny_images.images)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = make("Plain", tiny_images.images), make("Plain", tiny_images.images, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.network.get_parameter("shift"), other.network.get_parameter("shift"))


def test_a_saved_registered_network_is_read_again(tmp_path: Path, tiny_images: ImageData) -> None:
    classifier = make("PreActivation", tiny_images.images)
    save_classifier(classifier, tmp_path)
    assert torch.equal(load_classifier(tmp_path)(tiny_images.images), classifier(tiny_images.images))


def test_an_unknown_name_is_refused_with_those_that_are_known(tiny_images: ImageData) -> None:
    with pytest.raises(UserError, match=r"unknown classifier\.architecture 'vgg': choose one of .*Plain.*small_resnet"):
        make("vgg", tiny_images.images)


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(UserError, match="'resnet18' is built in"):
        register_architecture("resnet18", lambda settings, classes: nn.Identity())


def test_a_plugin_registers_its_network_where_the_name_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linear_plugin.py").write_text(
        "from torch import nn\n"
        "from untrigger import register_architecture\n"
        "register_architecture('linear', lambda settings, classes: nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "linear_plugin")
    check_architecture("linear")
