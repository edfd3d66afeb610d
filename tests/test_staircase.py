"""The ensemble of generators."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.generators import barely_trained
from tests.support.training import seeded
from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.flows import FlowGenerator
from untrigger.settings.methods import FlowSettings
from untrigger.settings.stairs import TOP
from untrigger.staircase import ValidTriggers, build_staircase


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


def test_triggers_that_are_handed_on_are_drawn_again_and_again() -> None:
    triggers = torch.rand(4, 3, 2, 3, generator=seeded())
    drawn = build_staircase([(ValidTriggers(triggers), 0.5)]).sample(100, seeded(1))
    assert drawn.shape == (100, 3, 2, 3)
    assert torch.equal(drawn.unique(dim=0), triggers.unique(dim=0))


def test_higher_stairs_of_flows_weigh_more_and_a_top_stair_goes_by_its_level() -> None:
    settings = FlowSettings(layers=2, hidden=4)
    low, top = (FlowGenerator(settings, (2, 2), seeded(number)) for number in range(2))
    top.level = 0.96
    staircase = build_staircase([(top, TOP), (low, 0.5)])
    assert staircase.betas == (0.5, TOP) and staircase.levels == (0.5, 0.96)
    assert staircase.gammas == pytest.approx((4, 625))
