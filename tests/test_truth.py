"""Multilevel splitting, on sets whose volume is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from untrigger.errors import UserError
from untrigger.settings.methods import TruthSettings
from untrigger.truth import Truth, find_truth

SETTINGS = TruthSettings(repeats=3, walkers=256, sweeps=6)


class Box:
    """F falls from 1 at the point 0.4 to 0.5 at the edge of a box, and on; the guess of it is rough."""

    def __init__(self, roughness: float = 0.0, side: float = 0.4) -> None:
        self.roughness, self.side = roughness, side
        self.measured = 0

    def guess_near(self, triggers: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda others: self._strengths(others) + self.roughness * (40 * others.double().sum(1)).sin()

    def strengths_above(self, triggers: Tensor, level: float) -> Tensor:
        self.measured += len(triggers)
        return self._strengths(triggers)

    def _strengths(self, triggers: Tensor) -> Tensor:
        return 0.5 ** ((triggers.double() - 0.4).abs().amax(1) / (self.side / 2))


def rngs(seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + repeat) for repeat in range(SETTINGS.repeats)]


def truth_about(box: Box, folder: Path | None = None) -> list[Truth]:
    return find_truth(box, 6, [0.5, 0.7], SETTINGS, rngs=rngs(), folder=folder)


@pytest.mark.parametrize("roughness", [0.0, 0.1])
def test_the_volume_of_a_box_is_found_without_bias(roughness: float) -> None:
    """Within three standard errors of the mean of many repeats, which are small beside what one repeat may be off."""
    repeats = [torch.Generator().manual_seed(repeat) for repeat in range(24)]
    truths = find_truth(Box(roughness), 6, [0.5, 0.7], SETTINGS, rngs=repeats)
    for truth, side in zip(truths, (0.4, 0.4 * math.log(0.7) / math.log(0.5)), strict=True):
        deviation = torch.tensor(truth.log_volumes, dtype=torch.float64).std().item()
        assert 0.05 < deviation < 0.4
        assert truth.log_volume == pytest.approx(6 * math.log(side), abs=3 * deviation / len(repeats) ** 0.5)


def test_samples_are_uniform_on_the_set() -> None:
    samples = truth_about(Box())[0].samples
    assert len(samples) == SETTINGS.repeats * SETTINGS.walkers * SETTINGS.draws
    assert bool(((samples - 0.4).abs() <= 0.2).all())
    assert samples.mean(0).tolist() == pytest.approx([0.4] * 6, abs=0.03)
    assert samples.std(0).tolist() == pytest.approx([0.4 / 12**0.5] * 6, abs=0.02)


def test_a_good_guess_saves_measurements() -> None:
    good, bad = Box(), Box(roughness=1.0)
    truth_about(good)
    truth_about(bad)
    assert good.measured < 0.7 * bad.measured


def test_two_far_apart_modes_are_both_found() -> None:
    class Two(Box):
        def _strengths(self, triggers: Tensor) -> Tensor:
            distances = [(triggers.double() - place).norm(dim=1) for place in (0.25, 0.75)]
            return 0.5 ** (torch.minimum(*distances) / 0.2)

    (truth,) = find_truth(Two(), 6, [0.5], SETTINGS, rngs=rngs())
    share = (truth.samples.mean(1) < 0.5).double().mean().item()
    assert 0.2 < share < 0.8


def test_an_interrupted_walk_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = truth_about(Box())
    with pytest.raises(KeyboardInterrupt):
        interrupted_at_the_fifth_level(tmp_path)
    resumed = truth_about(Box(), tmp_path)
    for one, other in zip(whole, resumed, strict=True):
        assert one.log_volumes == other.log_volumes and torch.equal(one.samples, other.samples)


def test_a_walk_kept_by_another_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_at_the_fifth_level(tmp_path)
    for box, betas in ((Box(side=0.5), [0.5, 0.7]), (Box(), [0.5, 0.8])):
        with pytest.raises(UserError, match=r"repeat-1.safetensors was kept by another search"):
            find_truth(box, 6, betas, SETTINGS, rngs=rngs(), folder=tmp_path)
    with pytest.raises(UserError, match=r"repeat-1.safetensors was kept by another search"):
        find_truth(Box(), 6, [0.5, 0.7], SETTINGS, rngs=rngs(), folder=tmp_path, origin="another classifier")


def interrupted_at_the_fifth_level(folder: Path) -> None:
    levels = []

    def on_level(repeat: int, level: float, log_volume: float) -> None:
        levels.append(level)
        if len(levels) == 5:
            raise KeyboardInterrupt

    find_truth(Box(), 6, [0.5, 0.7], SETTINGS, rngs=rngs(), folder=folder, on_level=on_level)


class Low(Box):
    """F is at most 0.5."""

    def _strengths(self, triggers: Tensor) -> Tensor:
        return super()._strengths(triggers) / 2


def test_a_beta_out_of_reach_is_said() -> None:
    settings = SETTINGS.model_copy(update={"max_levels": 60})
    with pytest.raises(UserError, match=r"no trigger with F >= 0.9 was found: after \d+ levels the best has F 0"):
        find_truth(Low(), 6, [0.9], settings, rngs=rngs())


def test_betas_below_the_one_out_of_reach_are_kept(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"max_levels": 60})
    found, again = (find_truth(Low(), 6, [0.3, 0.9], settings, rngs=rngs(), folder=tmp_path) for _ in range(2))
    assert [truth.beta for truth in found] == [0.3]
    assert again[0].log_volumes == found[0].log_volumes
