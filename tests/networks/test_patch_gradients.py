"""The backward pass of a frozen classifier, restricted to what a patch reaches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from untrigger.classifiers import Classifier, frozen, new_classifier
from untrigger.networks.patch_gradients import Moving, WindowedConvolution, gradients_in_patches
from untrigger.settings.methods import ClassifierSettings
from untrigger.triggers import draw_positions, stamp


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    rng = torch.Generator().manual_seed(3)
    settings = ClassifierSettings(architecture="resnet18", precision="fp32")
    images = random_images(64, 32, 32, rng)
    return frozen(new_classifier(settings, 10, images, rng), images)


def gradient(
    classifier: Classifier, images: Tensor, positions: Tensor, size: tuple[int, int] = (3, 3), *, whole: bool = False
) -> Tensor:
    """Of a sum of log-probabilities, with respect to one trigger per image; `whole`: by torch's backward pass alone."""
    triggers = torch.rand(len(images), 3, *size, generator=torch.Generator().manual_seed(4)).requires_grad_()
    if whole:
        logits = classifier.classify(stamp(classifier.normalise(images), classifier.normalise(triggers), positions))
    else:
        logits = classifier.classify_stamped(images, triggers, positions)
    logits.log_softmax(1)[:, 0].sum().backward()
    assert triggers.grad is not None
    return triggers.grad


def random_images(count: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=rng).to(torch.uint8)


@pytest.mark.parametrize(
    ("shape", "size", "corners"),
    [
        ((32, 32), (3, 3), [(0, 0), (0, 29), (29, 0), (29, 29), (0, 15), (15, 0), (29, 14), (1, 28)]),
        ((40, 24), (3, 3), [(0, 0), (37, 21), (37, 0), (0, 21), (20, 10), (9, 9)]),
        ((32, 32), (8, 2), [(0, 0), (24, 30), (3, 17)]),
        ((32, 32), (32, 32), [(0, 0)]),
    ],
)
def test_the_gradient_of_a_trigger_is_that_of_the_whole_backward_pass_wherever_it_is_stamped(
    resnet: Classifier,
    rng: torch.Generator,
    shape: tuple[int, int],
    size: tuple[int, int],
    corners: list[tuple[int, int]],
) -> None:
    images = random_images(len(corners) + 16, *shape, rng)
    positions = torch.cat([torch.tensor(corners), draw_positions(16, images, size, rng)])
    whole = gradient(resnet, images, positions, size, whole=True)
    restricted = gradient(resnet, images, positions, size)
    assert restricted.abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(restricted, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def parts(kinds: list[tuple[str, int, int]]) -> list[Moving]:
    """One after the other, each of a kernel and a stride, in double precision; the plain convolutions take windows."""
    path: list[Moving] = []
    for number, (kind, kernel, stride) in enumerate(kinds):
        if kind != "convolution":
            path.append(POOLS[kind](kernel, stride, padding=kernel // 2))
            continue
        channels = 4 if any(isinstance(part, nn.Conv2d) for part in path) else 3
        shape = (kernel, kernel + number % 2), (stride, 1 + number % 3), (kernel // 2, number)
        made = nn.Conv2d(channels, 4, *shape).double().requires_grad_(False)
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
        path.append(WindowedConvolution.of(made) if WindowedConvolution.fits(made) else made)
    return path


POOLS: dict[str, Callable[..., Moving]] = {
    "max": nn.MaxPool2d,
    "spread": partial(nn.MaxPool2d, dilation=2),
    "average": nn.AvgPool2d,
}
SHAPES = ((3, 1), (3, 1), (3, 2), (1, 1), (1, 2), (5, 1), (4, 2), (2, 3))
KINDS = [
    *(("convolution", kernel, stride) for kernel, stride in SHAPES),
    *((kind, kernel, stride) for kind in POOLS for kernel, stride in ((2, 2), (3, 2), (3, 1))),
]


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    shape=st.tuples(st.integers(4, 20), st.integers(4, 20)),
    data=st.data(),
)
def test_the_gradient_is_whole_for_any_patch_anywhere_behind_any_convolutions_and_pools(
    kinds: list[tuple[str, int, int]], shape: tuple[int, int], data: st.DataObject
) -> None:
    size = tuple(data.draw(st.integers(1, extent)) for extent in shape)
    corner = st.tuples(*(st.integers(0, extent - length) for extent, length in zip(shape, size, strict=True)))
    positions = torch.tensor(data.draw(st.lists(corner, min_size=1, max_size=3)))
    path, rng = parts(kinds), torch.Generator().manual_seed(5)
    images = torch.rand(len(positions), 3, *shape, generator=rng, dtype=torch.float64)
    triggers = torch.rand(len(positions), 3, *size, generator=rng, dtype=torch.float64).requires_grad_()

    def gradient(*, whole: bool) -> Tensor:
        features = stamp(images, triggers, positions)
        with nullcontext() if whole else gradients_in_patches(path, images, positions, (size[0], size[1])):
            for part in path:
                features = part(features).tanh()
        return torch.autograd.grad(features.sum(), triggers)[0]

    torch.testing.assert_close(gradient(whole=False), gradient(whole=True), rtol=1e-9, atol=1e-9)


def test_more_than_a_third_of_the_backward_operations_is_spared(resnet: Classifier, rng: torch.Generator) -> None:
    images = random_images(4, 32, 32, rng)
    counted = []
    for whole in (True, False):
        with FlopCounterMode(display=False) as counter:
            gradient(resnet, images, draw_positions(4, images, (3, 3), rng), whole=whole)
        counted.append(counter.get_total_flops())
    backward = counted[0] / 2
    assert counted[0] - counted[1] > backward / 3
