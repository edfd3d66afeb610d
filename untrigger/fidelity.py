"""How close a generator comes to the truth: entropy against log-volume, and whose samples lie among whose."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from untrigger.errors import UserError, UserNotice
from untrigger.flows import FlowGenerator
from untrigger.judge import Judge
from untrigger.triggers import Sampler
from untrigger.truth import Truth

NEIGHBOURS = 5

COMPARED = 1000
"""Samples of each side for coverage and precision, whose values depend on how many there are."""

JUDGED_AT_ONCE = 100

STRONGEST_SHARE = 0.1
"""Share of a generator's samples that is handed on where none of them is valid."""


@dataclass(frozen=True)
class Fidelity:
    """How well a generator fills {F >= beta}; by the judge's F, without any slack. Nats, and shares in [0, 1]."""

    valid: float
    """Share of the samples in the set."""
    mean_f: float
    entropy: float | None
    """Of the valid samples; None where too few are valid."""
    estimator: str
    """How the entropy was found: `density` (exact but for the samples drawn), or `nearest neighbours`."""
    log_volume: float | None = None
    """Of the set: the largest entropy there is. This and all that follows are None where the truth is not known."""
    gap: float | None = None
    """log_volume - entropy."""
    forward_gap: float | None = None
    """-log_volume minus the mean log-density of true samples: large where modes are missed. Only of densities."""
    coverage: float | None = None
    """Share of true samples as near to a generated valid one as true samples are to each other."""
    truth_coverage: float | None = None
    """The same of a second true sample, instead of the generated one: what coverage can reach."""
    precision: float | None = None
    """Share of generated samples as near to a true one as true samples are to each other."""


def measure_fidelity(
    generator: Sampler,
    beta: float,
    judge: Judge,
    *,
    truth: Truth | None = None,
    samples: int = 5000,
    rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fidelity:
    """Measure `samples` fresh triggers of `generator`, against the truth about {F >= beta} where it is known.

    A flow's entropy is -mean(log q) plus the logarithm of the valid share, since q over that share is the density of
    its valid samples; of other generators the nearest neighbours tell it. `on_progress` gets samples done and all.
    """
    return fidelity_of(generator, judged_samples(generator, judge, samples, rng, on_progress), beta, truth)


@dataclass(frozen=True)
class Judged:
    """Fresh triggers of a generator, float (n, 3, th, tw), and F of each, float64 (n,), by a judge."""

    triggers: Tensor
    strengths: Tensor
    log_density: Tensor | None
    """Of each, in nats; only of flows."""

    def valid(self, beta: float) -> Judged:
        """Those with F >= beta."""
        passing = self.strengths >= beta
        density = None if self.log_density is None else self.log_density[passing]
        return Judged(self.triggers[passing], self.strengths[passing], density)


def judged_samples(
    generator: Sampler,
    judge: Judge,
    count: int,
    rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """`count` fresh triggers of `generator`, judged. `on_progress` gets samples done and all."""
    if isinstance(generator, FlowGenerator):
        triggers, log_density = generator.sample_with_density(count, rng)
    else:
        triggers, log_density = generator.sample(count, rng), None
    strengths = []
    for part in triggers.split(JUDGED_AT_ONCE):
        strengths.append(judge.strengths(part))
        if on_progress is not None:
            on_progress(min(len(strengths) * JUDGED_AT_ONCE, count), count)
    return Judged(triggers, torch.cat(strengths), log_density)


def handed_on(judged: Judged, level: float) -> Judged:
    """Those with F >= level, for a defence to stamp; the strongest where there is none, with the warning UserNotice."""
    valid = judged.valid(level)
    if len(valid.triggers):
        return valid
    warnings.warn(
        f"none of {len(judged.triggers)} samples of the flow reaches F >= {level}: its strongest are handed on "
        "instead; raise --flow.steps, or choose a lower beta",
        UserNotice,
        stacklevel=2,
    )
    return judged.valid(judged.strengths.quantile(1 - STRONGEST_SHARE).item())


def fidelity_of(generator: Sampler, judged: Judged, beta: float, truth: Truth | None = None) -> Fidelity:
    """As `measure_fidelity`, of triggers of `generator` that are judged already."""
    valid = judged.valid(beta)
    share, points = len(valid.triggers) / len(judged.triggers), valid.triggers.flatten(1)
    if valid.log_density is not None:
        estimator = "density"
        entropy = math.log(share) - valid.log_density.double().mean().item() if share else None
    else:
        estimator = "nearest neighbours"
        entropy = nearest_neighbour_entropy(points) if len(points) > NEIGHBOURS else None
    found = Fidelity(share, judged.strengths.mean().item(), entropy, estimator)
    return found if truth is None else _against(truth, found, generator, points.cpu())


def _against(truth: Truth, found: Fidelity, generator: Sampler, points: Tensor) -> Fidelity:
    if len(truth.samples) < 2:
        raise UserError("the truth holds fewer than two samples: raise truth.walkers or truth.draws")
    count = min(COMPARED, len(truth.samples) // 2)
    # From both ends: of different repeats.
    first, second = truth.samples[:count], truth.samples[-count:]
    generated = points[:count]
    forward = None
    if isinstance(generator, FlowGenerator):
        forward = -truth.log_volume - generator.log_density(truth.samples).double().mean().item()
    return Fidelity(
        valid=found.valid,
        mean_f=found.mean_f,
        entropy=found.entropy,
        estimator=found.estimator,
        log_volume=truth.log_volume,
        gap=truth.log_volume - found.entropy if found.entropy is not None else None,
        forward_gap=forward,
        coverage=coverage(first, generated),
        truth_coverage=coverage(first, second),
        precision=precision(first, generated),
    )


def nearest_neighbour_entropy(points: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """The differential entropy, in nats, of the distribution that `points`, float (n, d), were drawn from.

    Source: Kozachenko and Leonenko (1987), with the distance to the k-th neighbour. It is high by several nats where a
    distribution fills a box in 27 dimensions, whose points see few neighbours across its walls; of a distribution on a
    curve or a surface it falls without end as there are more points.
    """
    count, dimensions = points.shape
    distances = _neighbour_distances(points, neighbours)
    ball = dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1)
    known = torch.digamma(torch.tensor([count, neighbours], dtype=torch.float64))
    return (known[0] - known[1]).item() + ball + dimensions * distances.clamp_min(1e-12).log().mean().item()


def coverage(true: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Share of the `true` points whose ball, out to the k-th true neighbour, holds a generated point.

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models" (ICML 2020).
    """
    if not len(generated):
        return 0.0
    nearest = torch.cdist(true.double(), generated.double()).amin(1)
    return (nearest <= _neighbour_distances(true, neighbours)).double().mean().item()


def precision(true: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Share of the generated points that lie in the ball of a true one, out to its k-th true neighbour.

    Source: Kynkaanniemi et al., "Improved Precision and Recall Metric" (NeurIPS 2019).
    """
    if not len(generated):
        return 0.0
    inside = torch.cdist(generated.double(), true.double()) <= _neighbour_distances(true, neighbours)
    return inside.any(1).double().mean().item()


def _neighbour_distances(points: Tensor, neighbours: int) -> Tensor:
    """The distance of each point to its k-th neighbour, float64 (n,)."""
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.kthvalue(min(neighbours + 1, len(points)), dim=1).values
