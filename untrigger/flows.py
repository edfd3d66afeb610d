"""Flows: generators whose samples have a known density, so that their entropy is exact.

A flow bends the uniform distribution on [0, 1]^d, whose entropy of 0 is the largest there is, step by step. Source:
Durkan et al., "Neural Spline Flows" (NeurIPS 2019), with splines on the unit box and no tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.errors import UserError
from untrigger.networks.initialisation import initialise
from untrigger.seeding import moved
from untrigger.settings.base import Stored
from untrigger.settings.methods import FlowSettings

SMALLEST_BIN = 1e-4
SMALLEST_SLOPE = 1e-4
INSIDE = 1e-6
"""How far points are kept from the ends of [0, 1], where rounding would lead out of the splines."""

IDENTITY_SLOPE = math.log(math.expm1(1 - SMALLEST_SLOPE))
"""The raw value whose softplus is the slope 1, less the smallest."""


Bend = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FlowGenerator(nn.Module):
    """Triggers, float (n, 3, height, width) in (0, 1), of exactly known density: a mixture of flows, one for each part
    of the set that it was led into; at first the uniform distribution.

    `level` is that of F which training found for a top stair.
    """

    level: float | None = None
    log_shares: Tensor
    """The logarithm of the share of each part, (parts,)."""

    def __init__(
        self, settings: FlowSettings, size: tuple[int, int], rng: torch.Generator | None = None, parts: int = 1
    ) -> None:
        super().__init__()
        self.settings = settings
        self.size = size
        self.dimensions = 3 * math.prod(size)
        rng = rng or torch.Generator()
        self.parts = nn.ModuleList(Flow(self.dimensions, settings, rng) for _ in range(parts))
        self.register_buffer("log_shares", torch.full((parts,), -math.log(parts)))

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Fresh triggers, float (count, 3, height, width); a TriggerSource."""
        uniform = moved(torch.rand(count, self.dimensions, generator=rng), self.log_shares.device)
        which = torch.multinomial(self.log_shares.exp().cpu(), count, replacement=True, generator=rng)
        points = torch.empty_like(uniform)
        for number, part in enumerate(self.parts):
            mine = (which == number).to(points.device)
            points[mine] = part(uniform[mine])[0]
        return points.view(count, 3, *self.size)

    def sample_with_density(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh triggers, float (count, 3, height, width), and their log-densities, (count,), in nats."""
        triggers = self.sample(count, rng)
        return triggers, self.log_density(triggers)

    @torch.no_grad()
    def log_density(self, triggers: Tensor) -> Tensor:
        """The log-density, (n,), in nats, of triggers, float (n, 3, height, width) or flattened (n, d), in [0, 1]."""
        points = triggers.reshape(len(triggers), self.dimensions).to(self.log_shares.device)
        each = [part.log_density(points) for part in self.parts if isinstance(part, Flow)]
        return (torch.stack(each, 1) + self.log_shares).logsumexp(1)

    def entropy(self, count: int, rng: torch.Generator) -> float:
        """The differential entropy in nats, from `count` fresh samples: at most 0, that of the uniform distribution."""
        return -self.sample_with_density(count, rng)[1].double().mean().item()


class Flow(nn.Module):
    """Points in (0, 1)^d of exactly known density; at first uniform.

    Couplings: each bends half of the pixels by monotone splines whose shape the other half decides. Which half is
    drawn from `rng`, and so are the weights.
    """

    def __init__(self, dimensions: int, settings: FlowSettings, rng: torch.Generator) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(dimensions, settings, rng) for _ in range(settings.layers))

    def forward(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Points, float (n, d), and the log-density of each, (n,), of numbers uniform in [0, 1], float (n, d)."""
        points, log_density = uniform.clamp(INSIDE, 1 - INSIDE), uniform.new_zeros(len(uniform))
        for coupling in self.couplings:
            points, gain = coupling(points)
            log_density = log_density - gain
        return points, log_density

    def log_density(self, points: Tensor) -> Tensor:
        """The log-density, (n,), in nats, of points, float (n, d) in [0, 1]."""
        points, log_density = points.clamp(INSIDE, 1 - INSIDE), points.new_zeros(len(points))
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            points, gain = coupling.undo(points)
            log_density = log_density - gain
        return log_density


class Coupling(nn.Module):
    """Bends one half of the numbers in [0, 1] by splines that a network reads off the other half."""

    kept: Tensor
    bent: Tensor

    def __init__(self, dimensions: int, settings: FlowSettings, rng: torch.Generator) -> None:
        super().__init__()
        order = torch.randperm(dimensions, generator=rng)
        self.register_buffer("kept", order[: dimensions // 2].sort().values)
        self.register_buffer("bent", order[dimensions // 2 :].sort().values)
        self.bins = settings.bins
        self.first = nn.Linear(len(self.kept), settings.hidden)
        self.second = nn.Linear(settings.hidden, settings.hidden)
        self.out = nn.Linear(settings.hidden, len(self.bent) * (3 * settings.bins + 1))
        initialise(self, rng)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The points, float (n, d), bent, and the log-determinant of each, (n,)."""
        return self._changed(points, bend)

    def undo(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The points before they were bent, and the log-determinant of that bend, (n,)."""
        return self._changed(points, unbend)

    def _changed(self, points: Tensor, change: Bend) -> tuple[Tensor, Tensor]:
        kept = points[:, self.kept]
        features = functional.silu(self.first(2 * kept - 1))
        shape = self.out(functional.silu(self.second(features))).unflatten(1, (len(self.bent), -1))
        bent, gain = change(points[:, self.bent], shape)
        return points.index_copy(1, self.bent, bent), gain.sum(1)


def bend(points: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Monotone rational-quadratic splines from [0, 1] onto itself, and the logarithm of their slope, both (n, d).

    points: float (n, d). shape: raw numbers, float (n, d, 3 * bins + 1): widths, heights, slopes at the knots; all 0 is
    the identity. Source: Gregory and Delbourgo (1982); Durkan et al., section 3.1 and appendix A.1.
    """
    left, bottom, width, height, before, after = _bins(points, shape, axis=0)
    share = (points - left) / width
    return _curve(share, bottom, width, height, before, after)


def unbend(bent: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """The points that `bend` brought to `bent`, and the logarithm of its slope there."""
    left, bottom, width, height, before, after = _bins(bent, shape, axis=1)
    steepness, risen = height / width, bent - bottom
    curvature = risen * (before + after - 2 * steepness)
    a = height * (steepness - before) + curvature
    b = height * before - curvature
    c = -steepness * risen
    root = (b**2 - 4 * a * c).clamp_min(0).sqrt()
    share = (2 * c / (-b - root)).clamp(0, 1)
    return left + share * width, _curve(share, bottom, width, height, before, after)[1]


def _bins(points: Tensor, shape: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Of the bin that holds each point along the `axis` (0: points, 1: bent): left, bottom, width, height, slopes."""
    bins = shape.shape[-1] // 3
    sizes = SMALLEST_BIN + (1 - SMALLEST_BIN * bins) * shape[..., : 2 * bins].unflatten(-1, (2, bins)).softmax(-1)
    knots = functional.pad(sizes.cumsum(-1)[..., :-1], (1, 0))
    slopes = SMALLEST_SLOPE + functional.softplus(shape[..., 2 * bins :] + IDENTITY_SLOPE)
    bin = (points[..., None] >= knots[..., axis, 1:]).sum(-1, keepdim=True)
    both = bin[..., None, :].expand(*bin.shape[:-1], 2, 1)
    left, bottom = knots.gather(-1, both).squeeze(-1).unbind(-1)
    width, height = sizes.gather(-1, both).squeeze(-1).unbind(-1)
    before, after = slopes.gather(-1, torch.cat([bin, bin + 1], -1)).unbind(-1)
    return left, bottom, width, height, before, after


def _curve(
    share: Tensor, bottom: Tensor, width: Tensor, height: Tensor, before: Tensor, after: Tensor
) -> tuple[Tensor, Tensor]:
    """Height and logarithm of the slope at a share of the way through a bin."""
    steepness, middle = height / width, share * (1 - share)
    below = steepness + (before + after - 2 * steepness) * middle
    bent = bottom + height * (steepness * share**2 + before * middle) / below
    above = after * share**2 + 2 * steepness * middle + before * (1 - share) ** 2
    return bent, 2 * (steepness / below).log() + above.log()


class _Description(Stored):
    """What `generator.json` says; an early version, whose flows had one part, names none."""

    FILE = "generator.json"

    family: Literal["flow"] = "flow"
    beta: float
    level: float | None = None
    size: tuple[PositiveInt, PositiveInt]
    parts: PositiveInt | None = None
    settings: FlowSettings


def save_flow(flow: FlowGenerator, beta: float, folder: Path) -> None:
    """Write `generator.safetensors` and `generator.json` into `folder`."""
    write_tensors(folder / "generator.safetensors", flow.state_dict())
    _Description(beta=beta, level=flow.level, size=flow.size, parts=len(flow.parts), settings=flow.settings).save(
        folder
    )


def load_flow(folder: Path, device: torch.device | None = None) -> tuple[FlowGenerator, float]:
    """Read what `save_flow` wrote: the flow in evaluation mode, and its beta."""
    description = _Description.load(folder)
    flow = FlowGenerator(description.settings, description.size, parts=description.parts or 1)
    flow.level = description.level
    state = read_tensors(folder / "generator.safetensors")
    if description.parts is None:
        state = {"log_shares": flow.log_shares, **{f"parts.0.{name}": tensor for name, tensor in state.items()}}
    try:
        flow.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{folder} does not hold such a flow: {' '.join(str(error).split())}") from error
    return flow.to(device or torch.device("cpu")).eval(), description.beta
