"""What is left in a classifier: the strongest triggers that a search with many restarts still finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from untrigger.judge import Judge
from untrigger.seeding import moved
from untrigger.settings.methods import StrongestLeftSettings

OUT_OF_REACH = 1e-12
"""Added to probabilities: keeps their logarithm finite where the target class is out of reach."""


@dataclass(frozen=True)
class FoundTriggers:
    """Triggers, float (k, 3, th, tw) in [0, 1], the strongest first, and the judge's F of each, float64 (k,)."""

    triggers: Tensor
    strengths: Tensor

    @property
    def strongest_F(self) -> float:
        """F of the strongest: none stronger was found, which is no proof that there is none."""
        return self.strengths[0].item()

    def above(self, level: float) -> Tensor:
        """The triggers with F above `level`, float (m, 3, th, tw)."""
        return self.triggers[self.strengths > level]


def find_strongest(
    judge: Judge,
    settings: StrongestLeftSettings,
    *,
    rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> FoundTriggers:
    """Search for the triggers with the highest F by the judge, one per restart.

    Each restart starts uniform in [0, 1] and descends the cross-entropy to the target class, averaged over some of the
    judge's images in every step, by Adam on its pixels, clipped after every step. All restarts run in one pass, on the
    same images. `on_progress` gets steps done and all.
    """
    start = torch.rand((settings.restarts, 3, *judge.size), generator=rng)
    pixels = moved(start, judge.pictures.device).requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=settings.learning_rate)
    for step in range(1, settings.steps + 1):
        chosen = moved(torch.randint(len(judge), (settings.images_per_step,), generator=rng), pixels.device)
        loss = -(judge.probabilities(pixels, chosen) + OUT_OF_REACH).log().mean(1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if on_progress is not None:
            on_progress(step, settings.steps)
    triggers = pixels.detach()
    strengths, order = judge.strengths(triggers).sort(descending=True)
    return FoundTriggers(triggers[order], strengths)
