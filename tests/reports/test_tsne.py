"""t-SNE of what a search may leave: few triggers, or equal ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from untrigger.reports.figures import draw_embedding
from untrigger.reports.tsne import REVERSED_GROUP, Embedding, embed


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_few_triggers_are_laid_out_as_far_as_they_go(count: int, rng: torch.Generator) -> None:
    places = embed(torch.rand(count, 3, 2, 2, generator=rng), 30.0, seed=0)
    assert places.shape == (count, 2) and bool(places.isfinite().all())
    assert len(places.unique(dim=0)) == count


def test_triggers_that_are_all_the_same_lie_in_one_place_and_can_be_drawn(tmp_path: Path) -> None:
    triggers = torch.ones(12, 3, 1, 1)
    places = embed(triggers, 5.0, seed=0)
    assert places.shape == (12, 2) and len(places.unique(dim=0)) == 1
    groups = torch.tensor([0] * 10 + [REVERSED_GROUP] * 2)
    draw_embedding(Embedding(triggers, groups, places), (0.9,), tmp_path / "tsne.png")
    assert (tmp_path / "tsne.png").stat().st_size > 1000
