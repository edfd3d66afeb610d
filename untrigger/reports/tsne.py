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
    """What the t-SNE shows: triggers, float (k, 3, th, tw), the group of each, int (k,), and its position, (k, 2).

    A group is the index of a stair by rising beta, REVERSED_GROUP or TRUE_GROUP.
    """

    triggers: Tensor
    group: Tensor
    positions: Tensor

    @property
    def reversed(self) -> Tensor:
        """The reversed triggers, in the order of their restarts."""
        return self.triggers[self.group == REVERSED_GROUP]

    def save(self, folder: Path) -> None:
        """Write the tensors into `folder`."""
        triggers, group, positions = self
        write_tensors(folder / EMBEDDING, {"triggers": triggers, "group": group, "places": positions})

    @classmethod
    def load(cls, folder: Path) -> Embedding:
        """Read what `save` wrote; UserError when it is something else."""
        stored = read_tensors(folder / EMBEDDING)
        if missing := {"triggers", "group", "places"} - stored.keys():
            raise UserError(f"{folder / EMBEDDING} holds no t-SNE, it lacks {', '.join(sorted(missing))}")
        return cls(stored["triggers"], stored["group"], positions=stored["places"])


def embed(triggers: Tensor, perplexity: float, *, seed: int) -> Tensor:
    """Positions in the plane, float (k, 2), of triggers, float (k, 3, th, tw).

    One thread, so that the same seed gives the same picture bit for bit. Few triggers get the perplexity that they can
    have, and equal ones, as a search that collapsed leaves them, one place: t-SNE itself makes NaN of them and crashes.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if bool((triggers == triggers[:1]).all()):
        return torch.zeros(len(triggers), 2)
    possible = min(perplexity, len(triggers) - 1.0)
    with threadpool_limits(1):
        layout = TSNE(perplexity=possible, init="pca", random_state=seed)
        return torch.from_numpy(layout.fit_transform(triggers.flatten(1).numpy()))
