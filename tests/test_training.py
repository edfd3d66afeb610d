"""The training loop, the attack, the defences and the searches, on tiny images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.generators import TriggerGenerator, train_generators
from untrigger.metrics import evaluate
from untrigger.pixel_sgd import reverse_triggers
from untrigger.poisoning import plant_backdoor, stamping
from untrigger.retraining import retrain
from untrigger.settings.methods import (
    ClassifierSettings,
    CleanTrainingSettings,
    GeneratorSettings,
    PixelSgdSettings,
    PoisoningSettings,
    RetrainingSettings,
)
from untrigger.staircase import build_staircase, measure_stair
from untrigger.training import OnEpoch, train
from untrigger.triggers import always, checkerboard


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CLEAN = CleanTrainingSettings(epochs=6, batch_size=16, learning_rate=0.05, augment=False)
ATTACK = PoisoningSettings(epochs=100, batch_size=16, learning_rate=0.05, poisoned_share=0.4, schedule="one_cycle")


@pytest.fixture(scope="module")
def backdoored(tiny_images: ImageData) -> Classifier:
    settings = ClassifierSettings(architecture="small_resnet", width=8, precision="fp32")
    classifier = new_classifier(settings, 3, tiny_images.images, seeded(2))
    train(classifier, tiny_images.images, tiny_images.labels, CLEAN, rng=seeded())
    plant_backdoor(classifier, tiny_images.images, tiny_images.labels, checkerboard(), 0, ATTACK, rng=seeded(1))
    return classifier


def state(classifier: Classifier) -> list[Tensor]:
    return [tensor.clone() for tensor in classifier.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


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


def test_stamping_poisons_the_stated_share_and_relabels_only_those(rng: torch.Generator) -> None:
    images, labels = torch.zeros(4000, 3, 8, 8), torch.ones(4000, dtype=torch.int64)
    stamped, relabelled = stamping(always(torch.ones(3, 3, 3)), 0.25, relabel=0)(images, labels, rng)
    changed = stamped.flatten(1).any(1)
    assert changed.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(relabelled == 0, changed)
    stamped, kept = stamping(always(torch.ones(3, 3, 3)), 0.25)(images, labels, rng)
    assert stamped.any() and torch.equal(kept, labels)
    assert stamping(always(torch.ones(3, 3, 3)), 0.0, relabel=0)(images, labels, rng)[0] is images


def test_poison_training_plants_a_backdoor_and_keeps_clean_accuracy(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    rates = evaluate(backdoored, tiny_images.images, tiny_images.labels, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate > 0.9
    assert rates.clean_accuracy > 0.9


def test_retraining_with_the_true_trigger_closes_the_backdoor_and_leaves_the_given_classifier(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    before = state(backdoored)
    settings = RetrainingSettings(epochs=15, batch_size=16, learning_rate=0.02, stamped_share=0.5)
    data = (tiny_images.images, tiny_images.labels)
    cured = retrain(backdoored, *data, always(checkerboard()), settings, rng=seeded(4))
    rates = evaluate(cured, *data, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.2
    assert rates.clean_accuracy > 0.9
    assert same(state(backdoored), before)


def test_reversed_triggers_open_the_backdoor_and_lie_in_range(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = PixelSgdSettings(restarts=3, steps=60, batch_size=64, learning_rate=0.5)
    found: list[int] = []
    triggers = reverse_triggers(
        backdoored,
        tiny_images.images,
        0,
        (3, 3),
        settings,
        rng=seeded(6),
        on_restart=lambda restart, losses: found.append(len(losses)),
    )
    assert triggers.shape == (3, 3, 3, 3)
    assert triggers.min() >= 0 and triggers.max() <= 1
    assert found == [60, 60, 60]
    assert not torch.equal(triggers[0], triggers[1])
    rates = [
        evaluate(backdoored, tiny_images.images, tiny_images.labels, trigger, 0, seeded(9)).attack_success_rate
        for trigger in triggers
    ]
    assert max(rates) > 0.8


GENERATOR = GeneratorSettings(
    hidden=64,
    epochs=120,
    batch_size=96,
    images_per_trigger=8,
    entropy_batch_size=128,
    learning_rate=3e-3,
    constraint="dual_ascent",
    alpha=0.05,
    multiplier_rate=1.0,
    fresh_samples=60,
    fresh_images=60,
    information_steps=150,
)


def train_generator(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    beta: float,
    target_class: int,
    size: tuple[int, int],
    settings: GeneratorSettings,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> TriggerGenerator:
    """One stair on its own."""

    def report(epoch: int, metrics: list[dict[str, float]]) -> None:
        if on_epoch is not None:
            on_epoch(epoch, metrics[0])

    return train_generators(
        classifier,
        images,
        labels,
        [beta],
        target_class,
        size,
        settings,
        rngs=[rng],
        on_epoch=report,
    )[0]


def test_a_generator_fills_its_stair_with_different_triggers(backdoored: Classifier, tiny_images: ImageData) -> None:
    curve: list[dict[str, float]] = []
    triggers = train_generator(
        backdoored,
        tiny_images.images,
        tiny_images.labels,
        0.6,
        0,
        (3, 3),
        GENERATOR,
        rng=seeded(),
        on_epoch=lambda epoch, metrics: curve.append(metrics),
    )
    measured = measure_stair(triggers, 0.6, backdoored, tiny_images.images, tiny_images.labels, 0, rng=seeded(8))
    assert len(curve) == 120
    assert measured.fresh_valid_share > 0.8
    assert measured.fresh_mutual_information > 0.3
    samples = triggers.sample(50, seeded(3))
    assert samples.min() >= 0 and samples.max() <= 1
    assert samples.std(0).mean() > 0.01


def one_step_metrics(beta: float, tiny_classifier: Classifier, data: ImageData, **changes: object) -> dict[str, float]:
    settings = GENERATOR.model_copy(update={"epochs": 1, "batch_size": 96, "trigger_noise": 0.0, **changes})
    seen: list[dict[str, float]] = []
    train_generator(
        tiny_classifier,
        data.images,
        data.labels,
        beta,
        0,
        (3, 3),
        settings,
        rng=seeded(),
        on_epoch=lambda epoch, metrics: seen.append(metrics),
    )
    return seen[0]


def test_the_hinge_is_the_mean_shortfall_below_beta(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    high = one_step_metrics(0.99, tiny_classifier, tiny_images)
    low = one_step_metrics(0.01, tiny_classifier, tiny_images)
    assert high["F"] == low["F"], "the first step's triggers do not depend on beta"
    assert high["hinge"] == pytest.approx(0.99 - high["F"], abs=1e-5)
    assert low["hinge"] == 0.0
    assert (high["valid_share"], low["valid_share"]) == (0.0, 1.0)


def test_a_fixed_alpha_judges_the_mean_of_a_step_and_dual_ascent_every_trigger(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    mean = one_step_metrics(0.5, backdoored, tiny_images)["F"]
    every = one_step_metrics(mean, backdoored, tiny_images)
    fixed = one_step_metrics(mean, backdoored, tiny_images, constraint="fixed_alpha")
    assert every["F"] == fixed["F"] == mean
    assert fixed["hinge"] == pytest.approx(0, abs=1e-6) and every["hinge"] > 0.01


def test_a_search_that_diverges_ends_with_a_remedy(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = GENERATOR.model_copy(update={"epochs": 5, "learning_rate": 1e30})
    with pytest.raises(UserError, match=r"generator training diverged in epoch \d: lower generator.learning_rate"):
        train_generator(backdoored, tiny_images.images, tiny_images.labels, 0.5, 0, (3, 3), settings, rng=seeded())


def test_training_that_diverges_ends_with_a_remedy(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    settings = CLEAN.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"training diverged in epoch \d, its loss is \w+: lower the learning rate"):
        train(tiny_classifier, tiny_images.images, tiny_images.labels, settings, rng=seeded())


def test_the_multiplier_rises_without_valid_samples_and_falls_with_too_many(
    tiny_classifier: Classifier, tiny_images: ImageData
) -> None:
    assert one_step_metrics(0.99, tiny_classifier, tiny_images)["multiplier"] == pytest.approx(0.1)
    assert one_step_metrics(0.01, tiny_classifier, tiny_images)["multiplier"] == pytest.approx(-0.1)
    fixed = one_step_metrics(0.99, tiny_classifier, tiny_images, constraint="fixed_alpha")
    assert fixed["multiplier"] == 0.0


def test_where_the_hinge_is_satisfied_training_maximises_the_entropy(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    settings = GENERATOR.model_copy(update={"constraint": "fixed_alpha", "epochs": 60})
    curve: list[dict[str, float]] = []
    train_generator(
        backdoored,
        tiny_images.images,
        tiny_images.labels,
        0.001,
        0,
        (3, 3),
        settings,
        rng=seeded(),
        on_epoch=lambda epoch, metrics: curve.append(metrics),
    )
    assert max(point["hinge"] for point in curve) == 0.0
    assert curve[0]["mutual_information"] < 0.1
    assert curve[-1]["mutual_information"] > 0.5


def barely_trained(classifier: Classifier, data: ImageData, beta: float, size: tuple[int, int]) -> TriggerGenerator:
    """A generator after a single epoch."""
    settings = GENERATOR.model_copy(update={"epochs": 1})
    return train_generator(classifier, data.images, data.labels, beta, 0, size, settings, rng=seeded())


def test_a_stair_is_the_same_up_to_rounding_whichever_others_train_beside_it(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    data = (tiny_images.images, tiny_images.labels)
    settings = GENERATOR.model_copy(update={"epochs": 3})

    def trained(betas: list[float]) -> dict[float, Tensor]:
        rngs = [seeded(int(100 * beta)) for beta in betas]
        stairs = train_generators(backdoored, *data, betas, 0, (3, 3), settings, rngs=rngs)
        return {beta: stair.sample(20, seeded(1)) for beta, stair in zip(betas, stairs, strict=True)}

    together = trained([0.5, 0.8, 0.9])
    for beta in (0.5, 0.8, 0.9):
        assert torch.allclose(together[beta], trained([beta])[beta], atol=1e-3)
    assert not torch.allclose(together[0.5], together[0.9], atol=1e-2)


def test_generator_samples_do_not_depend_on_the_batch_they_are_drawn_in(
    tiny_classifier: Classifier, tiny_images: ImageData
) -> None:
    triggers = barely_trained(tiny_classifier, tiny_images, 0.5, (2, 4))
    z = triggers.draw_noise(6, seeded(1))
    together = triggers(z).detach()
    assert together.shape == (6, 3, 2, 4)
    assert torch.allclose(together[2:3], triggers(z[2:3]).detach(), atol=1e-6)


def test_the_ensemble_draws_its_stairs_by_weight(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    stairs = []
    for beta in (0.9, 0.5):
        generator = barely_trained(tiny_classifier, tiny_images, beta, (3, 3))
        with torch.no_grad():
            generator.out.weight.zero_()
            generator.out.bias.fill_(math.log(beta / (1 - beta)))
        stairs.append((generator, beta))
    staircase = build_staircase(stairs, gammas=(1.0, 3.0))
    assert staircase.betas == (0.5, 0.9)
    samples = staircase.sample(2000, seeded(2))
    assert (samples[:, 0, 0, 0] > 0.7).double().mean().item() == pytest.approx(0.75, abs=0.04)
    assert staircase.generator_of(0.9) is stairs[0][0]
