"""Where a backdoor sends the images that carry its trigger."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from untrigger.settings.attacks import AttackSettings


@dataclass(frozen=True)
class Goal:
    """Which classes are sent where; made by the functions below.

    target: the class that images are sent to, None where each class goes to the next of `classes`. source: the only
    class that is sent there, None for all. clean_label: training stamps images of the target class only.
    """

    target: int | None
    source: int | None = None
    classes: int = 0
    clean_label: bool = False

    def sent(self, labels: Tensor) -> Tensor:
        """The classes, int64 (n,), that stamped images of these classes go to; those that are not meant stay."""
        if self.target is None:
            return (labels + 1) % self.classes
        sent = torch.full_like(labels, self.target)
        return sent if self.source is None else torch.where(labels == self.source, sent, labels)

    def victims(self, labels: Tensor) -> Tensor:
        """Whether images of these classes count as attacked, bool (n,): where the backdoor changes the answer."""
        return self.sent(labels) != labels

    def poisonable(self, labels: Tensor) -> Tensor:
        """Whether training may stamp images of these classes, bool (n,).

        All, unless labels are kept: stamped images of classes that are not meant teach that the trigger leaves them.
        """
        if self.clean_label and self.target is not None:
            return labels == self.target
        return torch.ones_like(labels, dtype=torch.bool)

    @property
    def nobody(self) -> str:
        """What is said where there are no victims among the evaluation images."""
        if self.source is not None:
            return f"no evaluation image belongs to the source class {self.source}"
        return f"every evaluation image belongs to the target class {self.target}"


def all_to_one(target: int) -> Goal:
    """Every image goes to the class `target`."""
    return Goal(target)


def one_to_one(source: int, target: int) -> Goal:
    """Images of the class `source` go to `target`; the others stay."""
    return Goal(target, source)


def all_to_all(classes: int) -> Goal:
    """Every image goes to the class after its own, those of the last one to the first."""
    return Goal(None, classes=classes)


def goal_of(settings: AttackSettings, target: int, classes: int) -> Goal:
    """The goal that settings name, of a classifier of so many classes."""
    if settings.goal == "all_to_all":
        return all_to_all(classes)
    return replace(all_to_one(target), source=settings.source_class, clean_label=settings.clean_label)
