"""The statistics network: a neural estimate of mutual information (MINE, Belghazi et al., ICML 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from untrigger.networks.initialisation import initialise

LEAK = 0.2
ADAM_BETAS = (0.5, 0.999)


class StatisticsNetwork(nn.Module):
    """T of pairs z, float (n, dz), and x, float (n, dx). The output is free: no activation bounds it."""

    def __init__(self, z_dimension: int, x_dimension: int, hidden: int, rng: torch.Generator) -> None:
        super().__init__()
        self.from_z = nn.Linear(z_dimension, hidden)
        self.from_x = nn.Linear(x_dimension, hidden)
        self.hidden = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        self.activation = nn.LeakyReLU(LEAK)
        initialise(self, rng)

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """T on the pairs (z, x), and on pairs of z with the x of its neighbour, which are independent: (n,) each."""
        from_z, from_x = self.from_z(z), self.from_x(x)
        joined = self.activation(torch.cat([from_z + from_x, from_z + from_x.roll(1, 0)]))
        joint, marginal = self.out(self.activation(self.hidden(joined))).squeeze(1).chunk(2)
        return joint, marginal


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """The lower bound on mutual information in nats: E[T] over pairs minus log E[exp T] over independent ones.

    joint and marginal: (..., n); one bound per leading place.
    """
    return joint.mean(-1) - _log_mean_exp(marginal)


def _log_mean_exp(scores: Tensor) -> Tensor:
    return torch.logsumexp(scores, -1) - math.log(scores.shape[-1])


class DebiasedObjective:
    """The bound, its gradient debiased: the denominator E[exp T] is a moving average (Belghazi et al., section 3.2).

    Takes scores (..., n) and keeps one average per leading place.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.log_average: Tensor | None = None

    def __call__(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """Of shape (...): its gradient is that of the bound with the averaged denominator, its value not the bound."""
        with torch.no_grad():
            log_mean = _log_mean_exp(marginal)
            if self.log_average is None:
                self.log_average = log_mean
            kept = self.log_average + math.log1p(-self.rate)
            self.log_average = torch.logaddexp(kept, log_mean + math.log(self.rate))
        return joint.mean(-1) - (marginal - self.log_average[..., None]).exp().mean(-1)


PairSource = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Draws `count` fresh pairs: z float (count, dz) and x float (count, dx)."""


def estimate_mutual_information(
    pairs: PairSource,
    *,
    steps: int,
    hidden: int = 512,
    batch_size: int = 512,
    learning_rate: float = 5e-4,
    unseen: int = 20_000,
    rng: torch.Generator,
) -> float:
    """Mutual information of the pairs in nats, by a fresh statistics network on samples that it has not seen.

    Trains for exactly `steps` batches of fresh pairs, then evaluates the bound on `unseen` further pairs. The estimate
    is a lower bound up to the error of the evaluation, and cannot be trusted far above log(unseen).
    """
    z, x = pairs(2, rng)
    network = StatisticsNetwork(z.shape[1], x.shape[1], hidden, rng).to(x.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    objective = DebiasedObjective(rate=0.01)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        (-objective(*network(*pairs(batch_size, rng)))).backward()
        optimiser.step()
    with torch.no_grad():
        return donsker_varadhan(*network(*pairs(unseen, rng))).item()
