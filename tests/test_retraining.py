"""The defence: retraining on stamped images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import Kept, interrupted_after
from tests.support.training import same, seeded, state
from untrigger.attacks.attack import Attack
from untrigger.attacks.patch import patch
from untrigger.attacks.sinusoidal import Sinusoidal
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.judge import new_judge
from untrigger.metrics import evaluate
from untrigger.retraining import Search, retrain, retrain_in_rounds
from untrigger.settings.attacks import SinusoidalSettings
from untrigger.settings.methods import RetrainingSettings, StrongestLeftSettings
from untrigger.snapshots import UNKEPT, Clock, Snapshot
from untrigger.strongest_triggers import FoundTriggers, find_strongest
from untrigger.triggers import TriggerSource, always, checkerboard

CURE = RetrainingSettings(epochs=15, batch_size=16, learning_rate=0.02, stamped_share=0.5)


@pytest.fixture
def search(tiny_images: ImageData) -> Search:
    """A real search, on few images of the defender."""
    settings = StrongestLeftSettings(restarts=3, steps=40, images_per_step=8)

    others = tiny_images.for_search(0, "other_classes").images

    def find(classifier: Classifier, rng: torch.Generator) -> FoundTriggers:
        judge = new_judge(classifier, others, 0, (3, 3), count=32, rng=seeded(3))
        return find_strongest(judge, settings, rng=rng)

    return find


DOSE = RetrainingSettings(epochs=2, batch_size=16, learning_rate=0.02, stamped_share=0.5)


def test_retraining_with_the_true_trigger_closes_the_backdoor_and_leaves_the_given_classifier(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    before = state(backdoored)
    data = (tiny_images.images, tiny_images.labels)
    cured = retrain(backdoored, *data, always(checkerboard()), CURE, rng=seeded(4))
    rates = evaluate(cured, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.2
    assert rates.clean_accuracy > 0.9
    assert same(state(backdoored), before)


def test_methods_of_one_seed_differ_in_nothing_but_the_trigger(backdoored: Classifier, tiny_images: ImageData) -> None:
    trigger = checkerboard()

    def of_much_randomness(count: int, rng: torch.Generator) -> Tensor:
        torch.rand(1000, generator=rng)
        return always(trigger)(count, rng)

    data = (tiny_images.images, tiny_images.labels)
    first, second = (
        state(retrain(backdoored, *data, source, DOSE, rng=seeded(4)))
        for source in (always(trigger), of_much_randomness)
    )
    assert same(first, second)


def test_an_attack_stamps_by_its_own_function_a_patch_as_its_trigger_would_be(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    data = (tiny_images.images, tiny_images.labels)
    by_trigger, by_patch, by_wave = (
        state(retrain(backdoored, *data, stamped, DOSE, rng=seeded(4)))
        for stamped in (always(checkerboard()), patch(checkerboard()), Sinusoidal(SinusoidalSettings(), checkerboard()))
    )
    assert same(by_trigger, by_patch) and not same(by_trigger, by_wave)


def test_rounds_go_on_with_what_was_found_until_nothing_above_the_level_is(
    backdoored: Classifier, tiny_images: ImageData, search: Search
) -> None:
    """The method's own trigger is harmless: only what is searched for can close the backdoor."""
    settings = CURE.model_copy(update={"learning_rate": 0.005, "rounds": 5, "round_level": 0.4})
    data = (tiny_images.images, tiny_images.labels)
    harmless = always(torch.full((3, 3, 3), 0.3))
    before = state(backdoored)
    found: list[tuple[int, float]] = []
    epochs: list[int] = []
    cured = retrain_in_rounds(
        backdoored,
        *data,
        harmless,
        settings,
        search,
        rng=seeded(4),
        on_epoch=lambda epoch, _: epochs.append(epoch),
        on_round=lambda number, strongest_F: found.append((number, strongest_F)),
    )
    numbers, strengths = zip(*found, strict=True)
    assert numbers == tuple(range(1, len(found) + 1)) and 2 <= len(found) < 5, found
    assert strengths[0] > 0.9, "one round with the harmless trigger leaves the backdoor open"
    assert all(strength > 0.4 for strength in strengths[:-1]) and strengths[-1] <= 0.4
    assert epochs == list(range(1, 15 * len(found) + 1))
    assert evaluate(cured, *data, checkerboard(), 0, seeded(9)).attack_success_rate < 0.3
    assert same(state(backdoored), before)


def test_rounds_end_when_they_are_used_up(backdoored: Classifier, tiny_images: ImageData, search: Search) -> None:
    settings = RetrainingSettings(epochs=1, batch_size=64, learning_rate=1e-5, rounds=2, round_level=0.0)
    found: list[float] = []
    retrain_in_rounds(
        backdoored,
        tiny_images.images,
        tiny_images.labels,
        always(checkerboard()),
        settings,
        search,
        rng=seeded(4),
        on_round=lambda _, strongest_F: found.append(strongest_F),
    )
    assert len(found) == 2


@pytest.mark.parametrize(
    ("triggers", "rounds"),
    [(always(checkerboard()), 1), (None, 3), (Sinusoidal(SinusoidalSettings(), checkerboard()), 3)],
    ids=["one round", "plain", "attack"],
)
def test_one_round_plain_fine_tuning_and_an_attacks_own_function_search_for_nothing(
    backdoored: Classifier, tiny_images: ImageData, search: Search, triggers: TriggerSource | Attack | None, rounds: int
) -> None:
    data = (tiny_images.images, tiny_images.labels)
    settings = CURE.model_copy(update={"epochs": 1, "rounds": rounds})
    searched: list[int] = []
    one = retrain(backdoored, *data, triggers, settings, rng=seeded(4))
    other = retrain_in_rounds(
        backdoored,
        *data,
        triggers,
        settings,
        search,
        rng=seeded(4),
        on_round=lambda number, _: searched.append(number),
    )
    assert same(state(one), state(other)) and not searched


def test_rounds_that_were_interrupted_end_as_undisturbed_ones(
    backdoored: Classifier, tiny_images: ImageData, search: Search
) -> None:
    settings = DOSE.model_copy(update={"rounds": 3, "round_level": 0.0})
    place = Kept()

    def trained(snapshot: Snapshot, on_epoch: Callable[[int], None]) -> list[Tensor]:
        kept = snapshot is not UNKEPT
        cured = retrain_in_rounds(
            backdoored,
            tiny_images.images,
            tiny_images.labels,
            always(checkerboard()),
            settings,
            search,
            rng=seeded(4),
            on_epoch=lambda epoch, _: on_epoch(epoch),
            snapshot=lambda number: Snapshot(place, str(number), Clock(0)) if kept else UNKEPT,
        )
        return state(cured)

    undisturbed = trained(UNKEPT, lambda _: None)
    assert same(interrupted_after(trained, 4), undisturbed), "in the middle of the second round"
