"""A backdoor that nobody described is closed, and of a model without one nothing is claimed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from tests.support.interruptions import Kept
from tests.support.training import CLEAN, same, seeded, state
from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData
from untrigger.defending import MaskTask, PatchTask, defend, defend_under_mask
from untrigger.measurements import Left
from untrigger.metrics import evaluate
from untrigger.settings.defences import DefenceSettings
from untrigger.settings.methods import ClassifierSettings, MaskSettings
from untrigger.snapshots import Clock, Snapshot
from untrigger.training import train
from untrigger.triggers import checkerboard

pytestmark = pytest.mark.slow

SETTINGS = DefenceSettings.of(
    {
        "betas": (0.5, 0.9),
        "samples": 50,
        "flow": {"steps": 60, "layers": 2, "hidden": 16, "samples": 48, "triggers": 16, "images_per_trigger": 4},
        "retraining": {
            "epochs": 10,
            "batch_size": 16,
            "learning_rate": 0.02,
            "stamped_share": 0.5,
            "rounds": 4,
            "round_level": 0.4,
        },
        "strongest_left": {"restarts": 4, "steps": 40, "images_per_step": 8},
    }
)


def task_of(images: ImageData) -> PatchTask:
    """Every third image is held out."""
    held = [number % 9 < 3 for number in range(len(images))]
    parts = ([number for number, out in enumerate(held) if out is kind] for kind in (False, True))
    data, heldout = (images.subset(part) for part in parts)
    return PatchTask(0, data, heldout, SETTINGS, seed=0, size=3)


def test_what_opens_a_classifier_is_closed_without_the_true_trigger(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    before, rounds = state(backdoored), list[tuple[int, Left]]()
    found = defend(backdoored, task_of(tiny_images), on_round=lambda number, left: rounds.append((number, left)))
    assert found.before.strongest is not None and found.before.strongest > 0.9
    assert found.classifier is not None and found.after is not None and found.after.strongest is not None
    assert found.after.strongest < 0.4 and found.after.accuracy > found.before.accuracy - 0.1
    assert tuple(left.strongest_F for _, left in rounds) == found.rounds and found.rounds[-1] <= 0.4
    rates = evaluate(found.classifier, tiny_images.images, tiny_images.labels, checkerboard(), 0, seeded(9))
    assert rates.attack_success_rate < 0.3, "the attacker's own trigger, which the defence never saw"
    assert same(state(backdoored), before), "the given classifier is left as it is"


def test_what_a_mask_opens_is_closed_until_it_takes_one_as_large_as_in_a_clean_classifier(
    backdoored: Classifier, clean: Classifier, tiny_images: ImageData
) -> None:
    patches = task_of(tiny_images)
    task = MaskTask(0, patches.data, patches.heldout, SETTINGS, 0, MaskSettings(mask_steps=100))
    level = task.opens(clean).mask
    assert level is not None
    rounds = list[Left]()
    found = defend_under_mask(backdoored, task, level, on_round=lambda _, left: rounds.append(left))
    assert tuple(left.mask for left in rounds) == found.rounds and found.allowed.mask == level
    assert rounds[-1].strongest_F is not None and found.allowed.strongest_F is not None
    assert rounds[-1].strongest_F <= found.allowed.strongest_F
    assert found.before.strongest == 1 and found.before.mask is not None and found.before.mask < level / 4
    assert found.after is not None and found.after.strongest is not None and found.after.mask == found.rounds[-1]
    assert found.after.strongest < 0.1 and found.after.mask >= level and found.after.accuracy > 0.9
    assert all(norm < level for norm in found.rounds[:-1])
    left_alone = defend_under_mask(clean, task, level)
    assert left_alone.classifier is None and left_alone.before.mask == level


def test_a_classifier_that_nothing_opens_is_left_alone(tiny_images: ImageData) -> None:
    settings = ClassifierSettings(architecture="small_resnet", width=8, precision="fp32")
    clean = new_classifier(settings, 3, tiny_images.images, seeded(2))
    train(clean, tiny_images.images, tiny_images.labels, CLEAN, rng=seeded())
    found = defend(clean, task_of(tiny_images))
    assert found.before.strongest_F is not None and found.before.strongest_F <= 0.4
    assert found.classifier is None and found.after is None and found.rounds == ()


def test_the_same_seed_gives_the_same_model_also_when_it_was_interrupted(
    backdoored: Classifier, tiny_images: ImageData
) -> None:
    def defended(of: Callable[[str], Snapshot], stop_at: str = "nothing") -> list[Tensor]:
        def on_work(work: str, done: int, total: int) -> None:
            if work.startswith(stop_at) and done > 5:
                raise KeyboardInterrupt

        found = defend(backdoored, task_of(tiny_images), on_work=on_work, snapshot=of)
        assert found.classifier is not None
        return state(found.classifier)

    place = Kept()

    def kept(name: str) -> Snapshot:
        return Snapshot(place, name, Clock(0))

    with pytest.raises(KeyboardInterrupt):
        defended(kept, "epochs")
    assert same(defended(kept), defended(lambda name: Snapshot()))
