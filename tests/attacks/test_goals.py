"""Which classes are sent where, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from untrigger.attacks.goals import Goal, all_to_all, all_to_one, goal_of, one_to_one
from untrigger.settings.attacks import AttackSettings

LABELS = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("goal", "sent", "victims"),
    [
        (all_to_one(1), [1, 1, 1, 1], [True, False, True, False]),
        (one_to_one(2, 0), [0, 1, 0, 1], [False, False, True, False]),
        (all_to_all(3), [1, 2, 0, 2], [True] * 4),
    ],
)
def test_goals_by_hand(goal: Goal, sent: list[int], victims: list[bool]) -> None:
    assert goal.sent(LABELS).tolist() == sent
    assert goal.victims(LABELS).tolist() == victims
    assert goal.poisonable(LABELS).all()


def test_with_clean_labels_only_the_target_class_is_stamped() -> None:
    assert replace(all_to_one(1), clean_label=True).poisonable(LABELS).tolist() == [False, True, False, True]


def test_settings_name_a_goal() -> None:
    assert goal_of(AttackSettings(), 4, 10) == all_to_one(4)
    assert goal_of(AttackSettings(goal="one_to_one", source_class=2), 4, 10) == one_to_one(2, 4)
    assert goal_of(AttackSettings(goal="all_to_all"), 4, 10) == all_to_all(10)
    assert goal_of(AttackSettings(clean_label=True), 4, 10).clean_label
