"""The backward pass of a frozen classifier, restricted to what a patch reaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from untrigger.classifiers import Classifier, frozen, new_classifier
from untrigger.settings.methods import ClassifierSettings
from untrigger.triggers import draw_places, stamp


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    rng = torch.Generator().manual_seed(3)
    settings = ClassifierSettings(architecture="resnet18", precision="fp32")
    images = random_images(64, 32, 32, rng)
    return frozen(new_classifier(settings, 10, images, rng), images)


def gradient(
    classifier: Classifier, images: Tensor, places: Tensor, size: tuple[int, int] = (3, 3), *, whole: bool = False
) -> Tensor:
    """Of a sum of log-probabilities, with respect to one trigger per image; `whole`: by torch's backward pass alone."""
    triggers = torch.rand(len(images), 3, *size, generator=torch.Generator().manual_seed(4)).requires_grad_()
    if whole:
        logits = classifier.classify(stamp(classifier.normalise(images), classifier.normalise(triggers), places))
    else:
        logits = classifier.classify_stamped(images, triggers, places)
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
    places = torch.cat([torch.tensor(corners), draw_places(16, images, size, rng)])
    whole = gradient(resnet, images, places, size, whole=True)
    restricted = gradient(resnet, images, places, size)
    assert restricted.abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(restricted, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_more_than_a_third_of_the_backward_operations_is_spared(resnet: Classifier, rng: torch.Generator) -> None:
    images = random_images(4, 32, 32, rng)
    counted = []
    for whole in (True, False):
        with FlopCounterMode(display=False) as counter:
            gradient(resnet, images, draw_places(4, images, (3, 3), rng), whole=whole)
        counted.append(counter.get_total_flops())
    backward = counted[0] / 2
    assert counted[0] - counted[1] > backward / 3
