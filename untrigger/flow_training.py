"""Training of flows: from the uniform distribution into {x : F(x) >= beta}, with the least loss of entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from untrigger.errors import UserError
from untrigger.flows import Flow, FlowGenerator
from untrigger.judge import Guess, Judge
from untrigger.networks.stacking import StackedModules
from untrigger.seeding import moved
from untrigger.settings.methods import FlowSettings
from untrigger.settings.stairs import TOP
from untrigger.snapshots import UNKEPT, Snapshot, State, load_optimiser, rng_states, set_rng_states

ADAM_BETAS = (0.9, 0.99)

WARM_UP_STEPS = 20
STEADY_SHARE = 0.4
"""Share of the steps at the peak learning rate; from there it falls along a cosine."""

CHOICES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
"""Shares of the steps after which the images that stand for all are chosen anew."""

ADAPTED_FROM = 0.6
"""Share of the steps after which the margin follows the share of valid samples."""

CHOOSING_TRIGGERS, PER_IMAGE = 96, 2
"""Triggers of a stair whose F on all images is measured for each choice; at least so many per part and image chosen.
With 160 instead of 96 the guess of F missed it by a tenth less."""

MARGIN_RATE = 0.5
"""By how many tau the margin grows in a step in which no sample is valid."""

LEVEL_RISE, COME_ALONG = 0.015, 0.9
"""By how much the logit of a top stair's level rises in a step in which so large a share of the samples is valid."""

RISEN_BY = 0.85
"""Share of the steps after which it rises no more, and the flow spreads out again."""

FIRST_LEVEL = 0.9
"""Of a top stair, until tau is small."""

TOP_SAMPLES, TOP_SHARE = 1000, 0.96
"""A top stair's level is what so large a share of so many samples reaches: of others 95 % do, then."""

LARGEST_GRADIENT = 10.0
"""Of the norm of the gradient of a part."""

WORTH_RATE = 0.03
"""Of the moving average of a part's worth, which decides its share."""

OnFlowStep = Callable[[int, list[dict[str, float]]], None]
"""Called after each step with its number, from 1, and the metrics of each stair."""


def train_flows(
    judge: Judge,
    betas: Sequence[float],
    settings: FlowSettings,
    *,
    rngs: Sequence[torch.Generator],
    parts: Tensor | None = None,
    on_step: OnFlowStep | None = None,
    snapshot: Snapshot = UNKEPT,
) -> list[FlowGenerator]:
    """Train one flow per stair in `betas`: the highest entropy with F >= beta.

    Minimises mean(log q) + mean(max(0, beta + margin - F)) / tau. Each flow starts as the uniform distribution, and tau
    falls geometrically: so the entropy falls only as far as the constraint makes it. F is guessed from images drawn at
    random at first, then from images that stand for all of the judge's (`Judge.stand_ins`): the noise of a guess would
    smooth the edge of the set away. The margin is one tau, and follows the share of valid samples towards `valid_share`
    in the end. The level of a top stair then rises as long as the samples come along: to where one more step of F would
    cost more entropy than 1 / tau gives back.

    `parts` are the middles of the parts of the set, float (parts, d), as `find_parts` finds them. Each has a flow of
    its own, to which leaving its part (what is nearest to its middle) costs as much as lacking F does. Its share of the
    mixture is proportional to the exponential of its entropy less what its samples lack, which is best for both
    together. Without `parts` a single flow keeps one part of a set: giving up another costs it no more entropy than the
    logarithm of what remains.

    Each stair has its own source of randomness in `rngs`, and draws the same numbers whichever others train beside it.
    Metrics per step: `F`, as guessed, and `valid_share` of its triggers, `entropy` (nats), `tau`, `margin`. Returns the
    flows in evaluation mode. Raises UserError when one of the metrics is no longer finite.
    """
    middles = torch.zeros(1, judge.dimensions) if parts is None else parts
    stairs = _FlowTraining(judge, betas, settings, rngs, middles)
    for step in range(stairs.restore(snapshot.restored()), settings.steps):
        metrics = stairs.step(step)
        if not bool(metrics.isfinite().all()):
            raise UserError(f"flow training diverged in step {step + 1}: lower flow.learning_rate")
        if on_step is not None:
            on_step(step + 1, [dict(zip(_FlowTraining.METRICS, values, strict=True)) for values in metrics.tolist()])
        snapshot.offer(partial(stairs.state, step + 1), last=step + 1 == settings.steps)
    return stairs.finished()


class _FlowTraining:
    """The flows of all parts of several stairs, their weights stacked, their guesses of F, margins and the optimiser.

    Tensors over flows are (stairs, parts, ...), and flattened to (stairs * parts, ...) where they are stacked.
    """

    METRICS = ("F", "valid_share", "entropy", "tau", "margin")

    def __init__(
        self,
        judge: Judge,
        betas: Sequence[float],
        settings: FlowSettings,
        rngs: Sequence[torch.Generator],
        middles: Tensor,
    ) -> None:
        self.judge, self.settings, self.rngs = judge, settings, list(rngs)
        self.device = judge.pictures.device
        self.middles = middles.to(self.device)
        self.parts = len(middles)
        self.top = torch.tensor(betas, device=self.device) == TOP
        self.levels = torch.tensor([FIRST_LEVEL if beta == TOP else beta for beta in betas], device=self.device)
        self.margins = torch.ones(len(betas), self.parts, device=self.device)
        self.worths = torch.zeros_like(self.margins)
        flows = [Flow(judge.dimensions, settings, rng) for rng in rngs for _ in range(self.parts)]
        self.flows = StackedModules(flows, self.device, fine_grained=True)
        self.optimiser = torch.optim.Adam(self.flows.parameters(), betas=ADAM_BETAS, fused=True)
        self.stand_ins: list[Guess] = []

    def step(self, number: int) -> Tensor:
        """Step `number`, from 0; returns METRICS, (stairs, 5)."""
        settings, done = self.settings, number / self.settings.steps
        if any(number == int(share * settings.steps) for share in CHOICES):
            self.stand_ins = self._stand_ins()
        tau = settings.first_tau * (settings.last_tau / settings.first_tau) ** min(1, done / settings.annealed_share)
        points, log_density = self.flows(self._uniform(settings.samples))
        judged = points[:, : self._of_a_part(settings.triggers)]
        strengths = self._by_part(
            torch.stack([guess(part) for guess, part in zip(self._guesses(), judged, strict=True)])
        )
        taus = torch.where(self.top, tau * (1 - self.levels) / (1 - FIRST_LEVEL), tau)[:, None]
        wanted = self.levels[:, None] + self.margins * taus
        lacking = (wanted[..., None] - strengths).clamp_min(0).mean(2) + self._beyond(judged)
        entropies = -self._by_part(log_density).mean(2)
        losses = lacking / taus - entropies

        self.flows.set_gradients(losses.sum())
        self._clip_gradients()
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * _pace(number, done)
        self.optimiser.step()

        short = self.levels[:, None, None] - strengths.detach()
        valid = (short <= 0).float().mean(2)
        self.worths += WORTH_RATE * (entropies.detach() - short.clamp_min(0).mean(2) / taus - self.worths)
        if done >= ADAPTED_FROM:
            self._adapt(valid, rising=done < RISEN_BY)
        metrics = torch.stack(
            [strengths.mean(2), valid, entropies, taus.expand_as(valid), self.margins * taus], 2
        ).detach()
        shares = self._log_shares().exp()
        metrics[:, :, 2] -= self._log_shares()  # the entropy of a mixture of what does not overlap
        return (shares[..., None] * metrics).sum(1)

    def _adapt(self, valid: Tensor, rising: bool) -> None:
        """Widen the margins by the share of samples that is missing; raise the level of a top stair that holds."""
        self.margins += MARGIN_RATE * (self.settings.valid_share - valid)
        risen = (self.levels.logit() + LEVEL_RISE).sigmoid()
        come_along = (self._log_shares().exp() * valid).sum(1) >= COME_ALONG
        self.levels = torch.where(self.top & come_along & rising, risen, self.levels)

    def _log_shares(self) -> Tensor:
        """The logarithm of the share of each part, (stairs, parts)."""
        return self.worths.log_softmax(1)

    def state(self, steps: int) -> State:
        """All that the steps after the first `steps` depend on."""
        return {
            "steps": steps,
            "flows": self.flows.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "margins": self.margins,
            "levels": self.levels,
            "worths": self.worths,
            "stand_ins": [[guess.chosen, guess.weights, guess.offset] for guess in self.stand_ins],
            "rngs": rng_states(self.rngs),
        }

    def restore(self, state: State | None) -> int:
        """Back to what `state` gave; how many steps are done."""
        if state is None:
            return 0
        self.flows.load_state_dict(state["flows"])
        load_optimiser(self.optimiser, state["optimiser"])
        self.margins, self.levels = state["margins"].to(self.device), state["levels"].to(self.device)
        self.worths = state["worths"].to(self.device)
        self.stand_ins = [Guess(self.judge, *(part.to(self.device) for part in each)) for each in state["stand_ins"]]
        set_rng_states(self.rngs, state["rngs"])
        return int(state["steps"])

    def finished(self) -> list[FlowGenerator]:
        """The flows, in evaluation mode; those of top stairs with their levels."""
        finished, states = [], self.flows.states()
        for log_shares, top, rng in zip(self._log_shares(), self.top.tolist(), self.rngs, strict=True):
            flow = FlowGenerator(self.settings, self.judge.size, parts=self.parts)
            for part in flow.parts:
                part.load_state_dict(next(states))
            flow.log_shares = log_shares.clone()
            flow.to(self.device).eval()
            flow.level = self._level_held(flow, rng) if top else None
            finished.append(flow)
        return finished

    def _level_held(self, flow: FlowGenerator, rng: torch.Generator) -> float:
        """The level of F that TOP_SHARE of a flow's samples reach, cut off behind three decimals."""
        strengths = self.judge.strengths(flow.sample(TOP_SAMPLES, rng))
        return math.floor(1000 * strengths.quantile(1 - TOP_SHARE).item()) / 1000

    def _guesses(self) -> list[Guess]:
        """The guess of F for each flow."""
        if self.stand_ins:
            return self.stand_ins
        some = [self.judge.some(self.settings.images_per_trigger, rng) for rng in self.rngs]
        return [guess for guess in some for _ in range(self.parts)]

    def _stand_ins(self) -> list[Guess]:
        count = max(CHOOSING_TRIGGERS, PER_IMAGE * self.settings.images_per_trigger * self.parts)
        with torch.no_grad():
            points, _ = self.flows(self._uniform(count))
        return [self.judge.stand_ins(part, self.settings.images_per_trigger) for part in points]

    def _of_a_part(self, count: int) -> int:
        """How many of a stair's samples each of its parts gets."""
        return -(-count // self.parts)

    def _by_part(self, values: Tensor) -> Tensor:
        """Values of samples of all flows, (stairs * parts, n), as (stairs, parts, n)."""
        return values.view(len(self.levels), self.parts, -1)

    def _beyond(self, points: Tensor) -> Tensor:
        """How far the samples of each flow, (stairs * parts, n, d), lie outside of its part on average."""
        stairs = points.unflatten(0, (-1, self.parts))
        each = [_distance_beyond(stairs[:, own].flatten(0, 1), self.middles, own) for own in range(self.parts)]
        return torch.stack([part.view(len(stairs), -1).mean(1) for part in each], 1)

    def _uniform(self, count: int) -> Tensor:
        """Numbers uniform in [0, 1], float (stairs * parts, n, d), `count` in all for each stair."""
        shape = (self.parts, self._of_a_part(count), self.judge.dimensions)
        return moved(torch.cat([torch.rand(shape, generator=rng) for rng in self.rngs]), self.device)

    def _clip_gradients(self) -> None:
        """Bound the norm of each flow's gradient, so that one trigger far outside moves it no further."""
        gradients = [parameter.grad for parameter in self.flows.parameters() if parameter.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        for gradient in gradients:
            gradient *= (LARGEST_GRADIENT / norms).clamp(max=1).view(-1, *[1] * (gradient.ndim - 1))


def _distance_beyond(points: Tensor, middles: Tensor, own: int) -> Tensor:
    """How far points, float (n, d), lie outside of the cell of part `own`, float (n,): 0 within it.

    The distance to the plane half way between its middle and that of another part, the largest over the parts.
    """
    others = torch.cat([middles[:own], middles[own + 1 :]])
    if not len(others):
        return points.new_zeros(len(points))
    away = others - middles[own]
    across = (points[:, None] - (others + middles[own]) / 2) * (away / away.norm(dim=1, keepdim=True))
    return across.sum(2).amax(1).clamp_min(0)


def _pace(number: int, done: float) -> float:
    """The learning rate of a step, as a share of its peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, done - STEADY_SHARE) / (1 - STEADY_SHARE)))
    return min(1.0, (number + 1) / WARM_UP_STEPS) * max(cosine, 0.02)
