"""t-SNE: triggers laid out in the plane so that similar ones lie together."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.errors import UserError

REVERSED_GROUP = -1
"""The group of the reversed triggers in the t-SNE's tensors; the stairs have their index."""

TRUE_GROUP = -2
"""The group of the true trigger."""

EMBEDDING = "embedding.safetensors"


class Embedding(NamedTuple):
    """What the t-SNE shows: triggers, float (k, 3, th, tw), the group of each, int (k,), and its place, float (k, 2).

    A group is the index of a stair by rising beta, REVERSED_GROUP or TRUE_GROUP.
    """

    triggers: Tensor
    group: Tensor
    places: Tensor

    @property
    def reversed(self) -> Tensor:
        """The reversed triggers, in the order of their restarts."""
        return self.triggers[self.group == REVERSED_GROUP]

    def save(self, folder: Path) -> None:
        """Write the tensors into `folder`."""
        write_tensors(folder / EMBEDDING, self._asdict())

    @classmethod
    def load(cls, folder: Path) -> Embedding:
        """Read what `save` wrote."""
        return cls(**read_tensors(folder / EMBEDDING))


def embed(triggers: Tensor, perplexity: float, *, seed: int) -> Tensor:
    """Places in the plane, float (k, 2), of triggers, float (k, 3, th, tw).

    One thread, so that the same seed gives the same picture bit for bit. Raises UserError when there are too few
    triggers for the perplexity.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if perplexity >= len(triggers):
        raise UserError(
            f"visualisation.perplexity must be below the number of triggers ({len(triggers)}), got {perplexity:g}"
        )
    with threadpool_limits(1):
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(triggers.flatten(1).numpy())
    return torch.from_numpy(places)
