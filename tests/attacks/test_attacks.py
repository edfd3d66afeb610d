"""Each attack by its formula, and by its name."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.support.training import seeded
from untrigger.attacks.attack import Attack
from untrigger.attacks.registry import build_attack, register_attack
from untrigger.errors import UserError
from untrigger.settings.attacks import ATTACKS, AttackSettings, attack_settings
from untrigger.triggers import checkerboard, stamp


def attack(name: str, trigger: Tensor | None = None, **told: object) -> Attack:
    return build_attack(attack_settings({"name": name, **told}), checkerboard() if trigger is None else trigger)


@pytest.mark.parametrize("name", ATTACKS)
def test_stamping_stays_in_range_leaves_what_it_is_given_and_repeats_itself(name: str) -> None:
    images = torch.rand(4, 3, 12, 16, generator=seeded())
    before, made = images.clone(), attack(name)
    first, second = (made.stamp(images, seeded(1)) for _ in range(2))
    assert torch.equal(images, before) and torch.equal(first, second) and not torch.equal(first, images)
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("name", ATTACKS)
def test_only_a_patch_is_called_one_and_the_others_say_why(name: str) -> None:
    made = attack(name)
    assert made.is_patch == (name == "patch")
    assert made.is_patch or made.no_patch.startswith("the trigger is no patch: ")


def test_a_patch_goes_where_triggers_go_or_into_the_lower_right_corner() -> None:
    images = torch.zeros(3, 3, 6, 8)
    assert torch.equal(attack("patch").stamp(images, seeded(1)), stamp(images, checkerboard()[None], seeded(1)))
    fixed = attack("patch", torch.ones(3, 2, 3), place="fixed").stamp(images, seeded(1))
    assert bool((fixed[:, :, 4:, 5:] == 1).all()) and fixed.sum() == 3 * 3 * 2 * 3


def test_a_picture_is_mixed_in_by_its_ratio() -> None:
    picture = torch.rand(3, 4, 6, generator=seeded(2))
    made = attack("blended", picture, ratio=0.25).stamp(torch.full((2, 3, 4, 6), 0.6), seeded())
    torch.testing.assert_close(made, (0.25 * picture + 0.75 * 0.6).expand(2, -1, -1, -1))


def test_a_sinusoid_is_added_along_the_columns() -> None:
    made = attack("sinusoidal", delta=0.3, frequency=2).stamp(torch.full((1, 3, 3, 8), 0.5), seeded())
    wave = [0.5 + 0.3 * math.sin(2 * math.pi * column * 2 / 8) for column in range(1, 9)]
    torch.testing.assert_close(made, torch.tensor(wave).expand(1, 3, 3, 8))


def test_a_warp_shifts_by_its_strength_and_between_its_points_smoothly() -> None:
    made = attack("warped", strength=0.5, control_points=4)
    at_points = made.shifts(4, 4)  # type: ignore[attr-defined]
    assert at_points.abs().mean().item() == pytest.approx(0.5)
    wide = made.shifts(31, 31)  # type: ignore[attr-defined]
    torch.testing.assert_close(wide[:, :, ::10, ::10], at_points, atol=1e-5, rtol=0)
    assert (wide.diff(dim=3).abs().max()) < 0.3, "neighbours go to neighbouring places"
    ramp = torch.linspace(0, 1, 31).expand(1, 3, 31, 31)
    fetched = made.stamp(ramp, seeded())[0, 0, 5:-5, 5:-5]
    torch.testing.assert_close(fetched, (ramp[0, 0] + wide[0, 0] / 30)[5:-5, 5:-5], atol=1e-5, rtol=0)


def test_the_noise_mode_of_a_warp_differs_from_image_to_image() -> None:
    images = torch.rand(1, 3, 16, 16, generator=seeded()).expand(2, -1, -1, -1)
    made = attack("warped")
    noisy = made.disturbed(images, seeded(1))
    assert not torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], made.stamp(images, seeded(1))[0])


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"name": "star"}, "the attack must be one of blended, .*, got 'star'"),
        ({"name": "blended", "ratio": 2}, "the attack blended: ratio: .*got 2"),
        ({"name": "patch", "strength": 1}, "the attack patch: unknown setting strength"),
        ({"goal": "one_to_one"}, "source_class goes with the goal one_to_one and no other, got None with one_to_one"),
        ({"source_class": 1}, "source_class goes with the goal one_to_one and no other, got 1 with all_to_one"),
        ({"goal": "all_to_all", "clean_label": True}, "clean_label needs one target class, got all_to_all"),
    ],
)
def test_wrong_settings_are_named(told: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        attack_settings(told)


class InvertedSettings(AttackSettings):
    """Pixels are inverted."""

    name: Literal["inverted"] = "inverted"


class Inverted(Attack):
    no_patch = "the trigger is no patch: pixels are inverted"

    def __init__(self, settings: InvertedSettings, trigger: Tensor) -> None:
        pass

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return 1 - images


def test_an_own_attack_is_registered_by_name_and_a_built_in_one_stays_what_it_is() -> None:
    register_attack(InvertedSettings, Inverted)
    assert attack("inverted").stamp(torch.zeros(1, 3, 2, 2), seeded()).min() == 1

    class Taken(AttackSettings):
        """A name that is taken."""

        name: Literal["patch"] = "patch"

    with pytest.raises(UserError, match="the attack 'patch' is built in"):
        register_attack(Taken, Inverted)  # type: ignore[arg-type]
