"""A classifier whose answer to a trigger can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.by_hand import with_network
from untrigger.datasets.images import ImageData
from untrigger.judge import Judge, new_judge

LOG_VOLUME = -4.013
"""Of {F >= 0.5}: nine numbers uniform in [0, 1] have a mean of at least 0.7 (Irwin and Hall)."""


TWO_PARTS_LOG_VOLUME = -3.625
"""Of {F >= 0.5} where red and blue must differ by 0.3: two sums of nine numbers (Irwin and Hall), either way round."""


class RedPatch(nn.Module):
    """The target class, 0, has the probability 1/2 where the reddest 3x3 patch has a mean of 0.7."""

    def forward(self, images: Tensor) -> Tensor:
        reddest = nn.functional.avg_pool2d(images[:, :1], 3, stride=1).flatten(1).amax(1)
        score = 20 * (reddest - 0.7)
        return torch.stack([score, torch.zeros_like(score)], 1)


class RedOrBluePatch(nn.Module):
    """The target class, 0, has the probability 1/2 where a 3x3 patch has 0.3 more red than blue, or more blue than red.

    It must be a whole patch on a grey image: on the way from one kind of trigger to the other lies none.
    """

    GREY = 128

    def forward(self, images: Tensor) -> Tensor:
        stamped = (images[:, :1] != self.GREY / 255).float()
        whole = nn.functional.avg_pool2d(stamped, 3, stride=1) > 0.99
        contrast = whole * nn.functional.avg_pool2d(images[:, :1] - images[:, 2:], 3, stride=1)
        score = 20 * (contrast.abs().flatten(1).amax(1) - 0.3)
        return torch.stack([score, torch.zeros_like(score)], 1)


def red_or_blue_judge() -> Judge:
    """F of a trigger on grey images depends on the difference of its mean red and blue alone."""
    return new_judge(
        with_network(RedOrBluePatch(), 2),
        torch.full((16, 3, 8, 8), RedOrBluePatch.GREY, dtype=torch.uint8),
        0,
        (3, 3),
        count=16,
        rng=torch.Generator().manual_seed(3),
    )


def red_patch_judge(data: ImageData) -> Judge:
    """F depends on the mean of a trigger's red pixels alone; `data` has little red outside of class 0."""
    rng = torch.Generator().manual_seed(3)
    others = data.for_search(0, "other_classes").images
    return new_judge(with_network(RedPatch(), 2), others, 0, (3, 3), count=16, rng=rng)
