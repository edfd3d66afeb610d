"""Whether an attack fits the data: said before hours of training, and not after them."""

from __future__ import annotations

from collections.abc import Iterable

from untrigger.attacks.goals import Goal
from untrigger.datasets.images import Split
from untrigger.errors import UserError
from untrigger.triggers import check_fits


def check_attack_fits(
    dataset: str,
    split: Split,
    *,
    target_class: int,
    source_class: int | None,
    patch_sizes: Iterable[tuple[int, int]],
) -> None:
    """UserError when a class is none of the data, nobody would be attacked, or a patch does not fit the images.

    patch_sizes: height and width of each kind of patch that is planted or looked for.
    """
    classes = len(split.training.class_names)
    for name, number in (("target_class", target_class), ("source_class", source_class)):
        if number is not None and number >= classes:
            raise UserError(f"{name} must be below the number of classes of {dataset} ({classes}), got {number}")
    goal = Goal(target_class, source_class)
    if not bool(goal.victims(split.evaluation.labels).any()):
        raise UserError(f"{goal.nobody}: nothing to attack")
    for size in patch_sizes:
        check_fits(size, split.training.images)
