"""F over a fixed set of images and positions."""

from __future__ import annotations

import math

import pytest
import torch

from untrigger.classifiers import Classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.judge import Judge, new_judge
from untrigger.metrics import predict
from untrigger.triggers import stamp


@pytest.fixture
def judge(tiny_classifier: Classifier, tiny_images: ImageData, rng: torch.Generator) -> Judge:
    return new_judge(tiny_classifier, tiny_images.images, 0, (3, 3), count=32, rng=rng)


def test_f_is_the_mean_probability_on_stamped_images(
    tiny_classifier: Classifier, tiny_images: ImageData, judge: Judge
) -> None:
    others = tiny_images.images[tiny_images.labels != 0]
    given = Judge(tiny_classifier, others, judge.positions[:1].expand(len(others), -1), 0, (3, 3))
    trigger = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    stamped = stamp(others.float() / 255, trigger, given.positions)
    assert given.strengths(trigger).item() == pytest.approx(
        predict(tiny_classifier, stamped)[:, 0].mean().item(), abs=2e-3
    )


def test_a_trigger_has_the_same_f_whatever_is_judged_beside_it(judge: Judge) -> None:
    triggers = torch.rand(40, 27, generator=torch.Generator().manual_seed(1))
    assert judge.strengths(triggers)[3].item() == pytest.approx(judge.strengths(triggers[3:4]).item(), abs=1e-6)


def test_giving_up_early_changes_no_verdict(judge: Judge) -> None:
    triggers = torch.rand(40, 27, generator=torch.Generator().manual_seed(1))
    strengths = judge.strengths(triggers)
    level = strengths.median().item()
    above = judge.strengths_above(triggers, level - 1e-9)
    assert torch.equal(above > 0, strengths >= level)
    assert torch.allclose(above[above > 0], strengths[above > 0], atol=1e-6)


def test_the_guess_from_few_images_is_near(judge: Judge) -> None:
    triggers = torch.rand(40, 27, generator=torch.Generator().manual_seed(1))
    assert (judge.rough(triggers) - judge.strengths(triggers)).abs().max() < 0.2


def test_gradients_reach_the_triggers(judge: Judge) -> None:
    triggers = torch.rand(2, 27, generator=torch.Generator().manual_seed(1)).requires_grad_()
    judge.probabilities(triggers, slice(8)).sum().backward()
    assert triggers.grad is not None and bool((triggers.grad != 0).any())


def test_too_few_images_come_again_at_other_places(tiny_classifier: Classifier, tiny_images: ImageData) -> None:
    judge = new_judge(
        tiny_classifier,
        tiny_images.images[:80],
        0,
        (3, 3),
        count=200,
        rng=torch.Generator().manual_seed(0),
    )
    assert len(judge) == 200 and not torch.equal(judge.positions[:80], judge.positions[80:160])


def test_a_few_images_stand_for_all_on_triggers_like_those_they_were_chosen_on(judge: Judge) -> None:
    rng = torch.Generator().manual_seed(1)
    triggers = 0.5 + 0.1 * torch.rand(120, 27, generator=rng)
    guess = judge.stand_ins(triggers[:100], 8)
    wrong = (guess(triggers[100:]) - judge.strengths(triggers[100:])).abs().mean()
    drawn = judge.some(8, rng)(triggers[100:]) - judge.strengths(triggers[100:])
    assert wrong < 0.2 * drawn.abs().mean()


@pytest.mark.filterwarnings("ignore::untrigger.errors.UserNotice")
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_f_of_logits_that_are_not_finite_is_refused(
    broken: float, tiny_classifier: Classifier, tiny_images: ImageData, rng: torch.Generator
) -> None:
    bias = [tensor for name, tensor in tiny_classifier.network.named_parameters() if name.endswith("bias")][-1]
    with torch.no_grad():
        bias[1] = broken
    judge = new_judge(tiny_classifier, tiny_images.images, 0, (3, 3), count=32, rng=rng)
    with pytest.raises(UserError, match="with logits that are NaN or infinite"):
        judge.strengths(torch.rand(2, 27, generator=rng))


def test_a_guess_from_all_images_is_f(judge: Judge, rng: torch.Generator) -> None:
    triggers = torch.rand(5, 27, generator=rng)
    assert torch.allclose(judge.some(len(judge), rng)(triggers).double(), judge.strengths(triggers), atol=1e-5)
