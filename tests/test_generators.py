"""The search for distributions of triggers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.generators import GENERATOR, barely_trained, train_generator
from tests.support.interruptions import interrupted_after
from tests.support.training import same, seeded
from untrigger.artifacts import read_json, write_json
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.flows import FlowGenerator
from untrigger.generators import TriggerGenerator, draw_noise, load_generator, save_generator, train_generators
from untrigger.settings.methods import FlowSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.staircase import measure_stair


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
    measured = measure_stair(
        triggers, 0.6, backdoored, tiny_images.images, tiny_images.labels, 0, settings=GENERATOR, rng=seeded(8)
    )
    assert len(curve) == 120
    assert measured.fresh_valid_share > 0.8
    assert measured.fresh_mutual_information is not None and measured.fresh_mutual_information > 0.3
    samples = triggers.sample(50, seeded(3))
    assert samples.min() >= 0 and samples.max() <= 1
    assert samples.std(0).mean() > 0.01


def test_generators_of_both_families_come_back_as_what_they_are(
    tiny_classifier: Classifier, tiny_images: ImageData, tmp_path: Path
) -> None:
    mine = barely_trained(tiny_classifier, tiny_images, 0.5, (3, 3))
    flow = FlowGenerator(FlowSettings(layers=2, hidden=8), (3, 3), seeded())
    for name, generator in (("mine", mine), ("flow", flow)):
        save_generator(generator, 0.5, tmp_path / name)
        back, beta = load_generator(tmp_path / name)
        assert type(back) is type(generator) and beta == 0.5
        assert torch.equal(back.sample(5, seeded(1)), generator.sample(5, seeded(1)))


def test_a_generator_of_an_early_version_is_the_papers(
    tiny_classifier: Classifier, tiny_images: ImageData, tmp_path: Path
) -> None:
    save_generator(barely_trained(tiny_classifier, tiny_images, 0.5, (3, 3)), 0.5, tmp_path)
    content = read_json(tmp_path / "generator.json")
    del content["family"], content["settings"]["family"]
    write_json(tmp_path / "generator.json", content)
    assert isinstance(load_generator(tmp_path)[0], TriggerGenerator)


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


def test_a_fixed_alpha_judges_every_image_and_dual_ascent_every_trigger(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    mean = one_step_metrics(0.5, backdoored, tiny_images)["F"]
    per_trigger = one_step_metrics(mean, backdoored, tiny_images)
    per_image = one_step_metrics(mean, backdoored, tiny_images, constraint="fixed_alpha")
    assert per_trigger["F"] == per_image["F"] == mean
    assert per_image["hinge"] > per_trigger["hinge"] > 0.01, "a mean hides what falls short behind what does not"


def test_the_two_hinges_are_one_where_each_trigger_is_tried_on_one_image(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    tried = {"images_per_trigger": 1, "entropy_batch_size": 96}
    per_trigger = one_step_metrics(0.5, backdoored, tiny_images, **tried)
    per_image = one_step_metrics(0.5, backdoored, tiny_images, constraint="fixed_alpha", **tried)
    assert per_image["hinge"] == per_trigger["hinge"] > 0


def test_uniform_noise_fills_the_unit_interval() -> None:
    z = draw_noise(GENERATOR.model_copy(update={"noise": "uniform"}), 1000, seeded())
    assert 0 <= z.min() < 0.01 and 0.99 < z.max() <= 1


def test_a_search_that_diverges_ends_with_a_remedy(backdoored: Classifier, tiny_images: ImageData) -> None:
    settings = GENERATOR.model_copy(update={"epochs": 5, "learning_rate": 1e30})
    with pytest.raises(UserError, match=r"generator training diverged in epoch \d: lower generator.learning_rate"):
        train_generator(backdoored, tiny_images.images, tiny_images.labels, 0.5, 0, (3, 3), settings, rng=seeded())


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
    assert max(point["hinge"] for point in curve) < 1e-4
    assert curve[0]["mutual_information"] < 0.1
    assert curve[-1]["mutual_information"] > 0.5


def test_a_stair_is_the_same_up_to_rounding_whichever_others_train_beside_it(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    data = (tiny_images.images, tiny_images.labels)
    settings = GENERATOR.model_copy(update={"epochs": 3})

    def trained(betas: list[float]) -> dict[float, Tensor]:
        rngs = [seeded(int(100 * beta)) for beta in betas]
        stairs = train_generators(backdoored, *data, 0, (3, 3), settings, betas=betas, rngs=rngs)
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


@pytest.mark.slow
@pytest.mark.parametrize("constraint", ["fixed_alpha", "dual_ascent"])
def test_a_search_that_was_interrupted_ends_as_an_undisturbed_one(
    constraint: str, backdoored: Classifier, tiny_images: ImageData
) -> None:
    def trained(snapshot: Snapshot, on_epoch: Callable[[int], None]) -> list[Tensor]:
        found = train_generators(
            backdoored,
            tiny_images.images,
            tiny_images.labels,
            0,
            (3, 3),
            GENERATOR.model_copy(update={"epochs": 4, "constraint": constraint}),
            betas=(0.5, 0.9),
            rngs=[seeded(1), seeded(2)],
            on_epoch=lambda epoch, _: on_epoch(epoch),
            snapshot=snapshot,
        )
        return [tensor for generator in found for tensor in generator.state_dict().values()]

    undisturbed = trained(UNKEPT, lambda _: None)
    for epoch in (2, 4):
        assert same(interrupted_after(trained, epoch), undisturbed), epoch
