"""Fine-pruning: which channels go, and that they stay away."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.by_hand import LinearInMeans, with_network
from tests.support.training import same, seeded, state
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.defences.fine_pruning import defend, last_layer, prunable, read_features
from untrigger.errors import UserError
from untrigger.settings.other_defences import FinePruningSettings


def test_what_the_last_layer_reads_of_each_image_is_the_activation_of_its_channels(tiny_images: ImageData) -> None:
    classifier = with_network(LinearInMeans([[1.0, 0.0, 0.0]]), 1)
    found = read_features(classifier, last_layer(classifier), tiny_images.images)
    torch.testing.assert_close(found, (tiny_images.images / 255).mean((2, 3)))


@pytest.mark.parametrize(("drop", "pruned"), [(0.0, [3, 0]), (0.25, [3, 0, 2]), (1.0, [3, 0, 2, 1])])
def test_channels_go_in_the_order_of_their_mean_activation_until_the_accuracy_falls(
    drop: float, pruned: list[int]
) -> None:
    """Channels 1 and 2 tell the classes; where neither speaks, the bias gives class 2."""
    features = torch.tensor([[0.1, 3.0, 0.0, 0.0], [0.1, 2.0, 0.0, 0.1], [0.4, 2.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    last = nn.Linear(4, 3)
    last.weight.data = torch.tensor([[0.1, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1], [0.0, 0.0, 0.0, 0.0]])
    last.bias.data = torch.tensor([0.0, 0.0, 0.01])
    assert prunable(features, labels, last, drop).tolist() == pruned
    assert bool(last.weight.any(0).all()), "the layer itself is left as it is"


def test_pruned_channels_stay_so_in_fine_tuning(backdoored: Classifier, tiny_images: ImageData) -> None:
    before = state(backdoored)
    settings = FinePruningSettings(epochs=2, batch_size=32, accuracy_drop=0.05)
    tuned, again = (defend(backdoored, tiny_images, settings, rng=seeded()) for _ in range(2))
    last = last_layer(backdoored)
    features = read_features(backdoored, last, tiny_images.images)
    pruned = set(prunable(features, tiny_images.labels, last, 0.05).tolist())
    asleep = {channel for channel, column in enumerate(last_layer(tuned).weight.T) if not column.any()}
    assert pruned and asleep == pruned
    assert same(state(tuned), state(again)) and same(state(backdoored), before)


def test_a_network_without_a_linear_layer_is_refused(tiny_images: ImageData) -> None:
    classifier = with_network(nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3)
    with pytest.raises(UserError, match="ends with a linear layer"):
        defend(classifier, tiny_images, FinePruningSettings(), rng=seeded())
