"""The training loop, on tiny images."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import interrupted_after
from tests.support.training import CLEAN, same, seeded, state
from untrigger.attacks.goals import all_to_one
from untrigger.attacks.patch import patch
from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.poisoning import poisoning
from untrigger.settings.methods import ClassifierSettings, CleanTrainingSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.training import train


def test_clean_training_learns_and_reports_every_epoch(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    train(
        tiny_classifier,
        tiny_images.images,
        tiny_images.labels,
        CLEAN,
        rng=seeded(),
        on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)),
    )
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1][1]["loss"] < seen[0][1]["loss"]
    assert seen[-1][1]["accuracy"] > 0.9
    assert not tiny_classifier.training


@pytest.mark.parametrize("augment", [False, True])
def test_training_is_the_same_bit_for_bit_with_the_same_seed(augment: bool, tiny_images: ImageData) -> None:
    settings = CLEAN.model_copy(update={"augment": augment, "epochs": 2})

    def trained(seed: int) -> list[Tensor]:
        classifier = new_classifier(
            ClassifierSettings(architecture="small_resnet", width=4), 3, tiny_images.images, seeded(2)
        )
        train(classifier, tiny_images.images, tiny_images.labels, settings, rng=seeded(seed))
        return state(classifier)

    first = trained(3)
    assert same(first, trained(3))
    assert not same(first, trained(4))


def test_the_order_of_the_images_and_their_augmentation_are_the_same_whatever_changes_the_batches(
    tiny_images: ImageData,
) -> None:
    def batches(numbers: int) -> list[Tensor]:
        seen: list[Tensor] = []

        def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            torch.rand(numbers, generator=rng)
            seen.append(images)
            return images, labels

        settings = CLEAN.model_copy(update={"augment": True, "epochs": 2})
        shape = ClassifierSettings(architecture="small_resnet", width=4)
        classifier = new_classifier(shape, 3, tiny_images.images, seeded(2))
        train(classifier, tiny_images.images, tiny_images.labels, settings, rng=seeded(), change_batch=change)
        return seen

    first = batches(0)
    assert same(first, batches(1000))
    assert not torch.equal(first[0], first[8]), "each epoch has an order of its own"


@pytest.mark.parametrize("epochs", range(1, 8))
def test_a_rising_and_falling_rate_takes_any_number_of_steps(
    epochs: int, tiny_classifier: Classifier, tiny_images: ImageData
) -> None:
    settings = CleanTrainingSettings(epochs=epochs, batch_size=len(tiny_images), augment=False)
    losses: list[float] = []
    train(
        tiny_classifier,
        tiny_images.images,
        tiny_images.labels,
        settings,
        rng=torch.Generator().manual_seed(5),
        on_epoch=lambda _, metrics: losses.append(metrics["loss"]),
    )
    assert len(losses) == epochs and all(math.isfinite(loss) for loss in losses)


def test_a_last_batch_of_one_image_does_not_break_batch_norm(
    tiny_classifier: Classifier, tiny_images: ImageData
) -> None:
    settings = CLEAN.model_copy(update={"epochs": 1, "batch_size": 17})
    train(tiny_classifier, tiny_images.images[:18], tiny_images.labels[:18], settings, rng=seeded())
    assert all(torch.isfinite(tensor).all() for tensor in state(tiny_classifier))


def test_training_that_diverges_ends_with_a_remedy(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    settings = CLEAN.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"training diverged in epoch \d, its loss is \w+: lower the learning rate"):
        train(tiny_classifier, tiny_images.images, tiny_images.labels, settings, rng=seeded())


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_a_training_that_was_interrupted_ends_as_an_undisturbed_one(schedule: str, tiny_images: ImageData) -> None:
    settings = CLEAN.model_copy(update={"augment": True, "epochs": 7, "schedule": schedule, "weight_decay": 0.01})

    def trained(snapshot: Snapshot, on_epoch: Callable[[int], None]) -> list[Tensor]:
        labels = len(tiny_images.class_names)
        classifier = new_classifier(
            ClassifierSettings(architecture="resnet18", width=4), labels, tiny_images.images, seeded()
        )
        poison = poisoning(patch(torch.ones(3, 2, 2)), all_to_one(0), 0.3)
        train(
            classifier,
            tiny_images.images,
            tiny_images.labels,
            settings,
            rng=seeded(3),
            change_batch=poison,
            on_epoch=lambda epoch, _: on_epoch(epoch),
            snapshot=snapshot,
        )
        return state(classifier)

    undisturbed = trained(UNKEPT, lambda _: None)
    for epoch in (2, 6, 7):
        assert same(interrupted_after(trained, epoch), undisturbed), epoch
