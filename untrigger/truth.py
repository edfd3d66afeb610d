"""The truth about a set {x in [0,1]^d : F(x) >= beta}: its volume, and samples uniform on it, by multilevel splitting.

The logarithm of the volume is the largest entropy that any distribution on the set can have. Sources: Kahn and Harris
(1951); Au and Beck (2001, "subset simulation"); Cerou et al. (2012) for levels at quantiles; Christen and Fox (2005)
for proposals that a cheap guess of F refuses without a bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from untrigger.artifacts import read_tensors, write_tensors
from untrigger.errors import UserError
from untrigger.intervals import error95
from untrigger.settings.methods import TruthSettings

ACCEPTED_SHARE = 0.25
"""Share of the proposals that walks should accept: near the best for a random walk in many dimensions."""

ADAPTATION = 2.0
"""How fast the logarithm of the stride follows the share of accepted proposals."""

SURE = 2.0
"""How many deviations of the guess a point lies above the level where the guess begins to doubt it."""


CHECKED_WALKERS, SAME_STRENGTH = 16, 0.02
"""A kept search is gone on with when F of so many walkers is the same up to this."""


class OutOfReach(UserError):
    """F does not rise to a beta."""


class LevelFunction(Protocol):
    """F of points, float (n, d) in [0, 1]."""

    def guess_near(self, triggers: Tensor) -> Callable[[Tensor], Tensor]:
        """A cheap guess of F, float64 (n,), for triggers like the given ones, float (k, d)."""

    def strengths_above(self, triggers: Tensor, level: float) -> Tensor:
        """F where it reaches `level`, float64 (n,); elsewhere anything below it."""


@dataclass(frozen=True)
class Truth:
    """What is known of one set {F >= beta}."""

    beta: float
    log_volumes: tuple[float, ...]
    """Nats, one of each independent repeat."""
    samples: Tensor
    """Uniform on the set, float (n, d), those of one repeat after those of the other."""

    @property
    def log_volume(self) -> float:
        """Nats, the mean of the repeats."""
        return sum(self.log_volumes) / len(self.log_volumes)

    @property
    def error95(self) -> float:
        """Half the width of its 95 % interval, in nats, by Student's t over the repeats."""
        count = len(self.log_volumes)
        deviation = torch.tensor(self.log_volumes, dtype=torch.float64).std().item()
        return error95(deviation / math.sqrt(count), count)


OnLevel = Callable[[int, float, float], None]
"""Called after each level with the repeat, from 1, the level of F reached, and its log-volume in nats."""


def find_truth(
    function: LevelFunction,
    dimensions: int,
    betas: Sequence[float],
    settings: TruthSettings,
    *,
    rngs: Sequence[torch.Generator],
    device: torch.device | None = None,
    folder: Path | None = None,
    origin: str = "",
    on_level: OnLevel | None = None,
) -> list[Truth]:
    """The truth about {F >= beta} for each of the rising `betas`, from one independent repeat per source in `rngs`.

    With `folder`, each repeat is kept there after every level, and goes on from there when it is found again; results
    are the same. `origin` stands for what F is: UserError for what was kept of another. The betas that not every repeat
    reaches are left out; raises OutOfReach where that leaves none.
    """
    if len(rngs) < 2:
        raise UserError(f"truth.repeats must be at least 2, to tell the error, got {len(rngs)}")
    betas, repeats = sorted(betas), []
    for number, rng in enumerate(rngs, 1):
        path = folder / f"repeat-{number}.safetensors" if folder is not None else None
        walk = Splitting(function, dimensions, betas, settings, rng, device or torch.device("cpu"), origin)
        if path is not None and path.exists():
            walk.load(path)
        while not walk.finished:
            try:
                walk.advance()
            except OutOfReach:
                if not walk.reached:
                    raise
                break
            if path is not None:
                walk.save(path)
            if on_level is not None:
                on_level(number, walk.level, walk.log_volume)
        repeats.append(walk)
    return [
        Truth(
            beta,
            tuple(walk.reached[index][0] for walk in repeats),
            torch.cat([walk.reached[index][1] for walk in repeats]),
        )
        for index, beta in enumerate(betas[: min(len(walk.reached) for walk in repeats)])
    ]


@dataclass
class Splitting:
    """One repeat: walkers that are uniform on {F >= level}, the level rising to one beta after the other.

    At each level the walkers below the next one are put where others stand; then all walk on, each within
    {F >= level}. The next level lies in the middle between the two middle values of F: so the half above it is a
    guess of the volume that is neither high nor low (at one of the two values the errors of all levels add up).
    """

    function: LevelFunction
    dimensions: int
    betas: Sequence[float]
    settings: TruthSettings
    rng: torch.Generator
    device: torch.device
    origin: str = ""
    level: float = 0.0
    levels: int = 0
    log_volume: float = 0.0
    stride: float = 0.1
    reached: list[tuple[float, Tensor]] = field(default_factory=list)
    """Of each beta reached: the log-volume and samples."""

    def __post_init__(self) -> None:
        self.points = self._drawn(torch.rand)
        self.strengths = self.function.strengths_above(self.points, self.level)

    @property
    def finished(self) -> bool:
        return len(self.reached) == len(self.betas)

    def advance(self) -> None:
        """Go up one level; at a beta, also keep samples. Raises OutOfReach where F does not rise any more."""
        beta = self.betas[len(self.reached)]
        before, self.level = self.level, min(self.strengths.quantile(0.5).item(), beta)
        if self.levels == self.settings.max_levels or not before < self.level <= beta:
            raise OutOfReach(
                f"no trigger with F >= {beta} was found: after {self.levels} levels the best has F "
                f"{self.strengths.max().item():.3f}; choose a lower beta"
            )
        self.levels += 1
        kept = (self.strengths >= self.level).nonzero().squeeze(1)
        self.log_volume += math.log(len(kept) / len(self.points))
        guess = self.function.guess_near(self.points[kept])
        self._replace_all_but(kept)
        self._walk(self.settings.sweeps, guess)
        if self.level == beta:
            self.reached.append((self.log_volume, self._samples(guess)))

    def _replace_all_but(self, kept: Tensor) -> None:
        """Put the walkers on those kept, on each as many, give or take one: chance would drown small parts."""
        rounds = -(-len(self.points) // len(kept))
        chosen = torch.cat([torch.randperm(len(kept), generator=self.rng) for _ in range(rounds)])
        stay = kept[chosen[: len(self.points)].to(self.device)]
        self.points, self.strengths = self.points[stay], self.strengths[stay]

    def _samples(self, guess: Callable[[Tensor], Tensor]) -> Tensor:
        draws = [self.points]
        for _ in range(1, self.settings.draws):
            self._walk(2 * self.settings.sweeps, guess)
            draws.append(self.points)
        return torch.cat(draws).cpu()

    def _walk(self, sweeps: int, guess: Callable[[Tensor], Tensor]) -> None:
        """Move every walker `sweeps` times by a symmetric step that leaves {F >= level} and its volume as they are."""
        guesses = guess(self.points)
        errors = guesses - self.strengths
        bias, deviation = errors.mean(), errors.std().clamp_min(1e-3)

        def plausible(guessed: Tensor) -> Tensor:
            """The logarithm of how plausible F >= level is, by the guess alone."""
            return torch.nn.functional.logsigmoid((guessed - bias - self.level) / deviation + SURE)

        accepted = 0
        for _ in range(sweeps):
            proposed = _reflected(self.points + self.stride * self._drawn(torch.randn))
            guessed = guess(proposed)
            gain = plausible(guessed) - plausible(guesses)
            chances = torch.rand(2, len(self.points), dtype=torch.float64, generator=self.rng).log().to(self.device)
            # What the guess refuses is never measured; what it favours is refused as much more often afterwards.
            tried = ((chances[0] < gain) & (chances[1] < -gain)).nonzero().squeeze(1)
            strengths = self.function.strengths_above(proposed[tried], self.level)
            moved = tried[strengths >= self.level]
            self.points[moved], guesses[moved] = proposed[moved], guessed[moved]
            self.strengths[moved] = strengths[strengths >= self.level]
            accepted += len(moved)
        # After the walk, and by one number: a step that follows the walkers' own spread bends the volume (by 0.7 nats
        # for a ball in 27 dimensions).
        share = accepted / (sweeps * len(self.points))
        self.stride *= math.exp(ADAPTATION * (share - ACCEPTED_SHARE))

    def _strengths_hold(self) -> Tensor:
        """Whether F of the first walkers is what it was, but for the rounding of another machine."""
        again = self.function.strengths_above(self.points[:CHECKED_WALKERS], 0)
        return (again - self.strengths[:CHECKED_WALKERS]).abs().max() < SAME_STRENGTH

    def _drawn(self, draw: Callable[..., Tensor]) -> Tensor:
        return draw(self.settings.walkers, self.dimensions, generator=self.rng).to(self.device)

    def save(self, path: Path) -> None:
        """Write all that the next level depends on."""
        numbers = [self.level, self.log_volume, self.stride, self.levels]
        write_tensors(
            path,
            {
                "betas": torch.tensor(self.betas, dtype=torch.float64),
                "points": self.points,
                "strengths": self.strengths,
                "numbers": torch.tensor(numbers, dtype=torch.float64),
                "rng": self.rng.get_state(),
                "origin": torch.tensor(list(self.origin.encode()), dtype=torch.uint8),
                "log_volumes": torch.tensor([volume for volume, _ in self.reached], dtype=torch.float64),
                **{f"samples-{index}": samples for index, (_, samples) in enumerate(self.reached)},
            },
        )

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote; UserError when that was another search, by its betas, walkers, origin or F."""
        kept = read_tensors(path)
        same = kept["points"].shape == self.points.shape and kept["betas"].tolist() == list(self.betas)
        same = same and bytes(kept.get("origin", torch.zeros(0)).tolist()).decode() == self.origin
        self.points, self.strengths = kept["points"].to(self.device), kept["strengths"].to(self.device)
        if not same or not bool(self._strengths_hold()):
            raise UserError(f"{path} was kept by another search: remove it, or keep this one in another folder")
        self.level, self.log_volume, self.stride, levels = kept["numbers"].tolist()
        self.levels = int(levels)
        self.rng.set_state(kept["rng"])
        self.reached = [(v, kept[f"samples-{index}"]) for index, v in enumerate(kept["log_volumes"].tolist())]


def _reflected(points: Tensor) -> Tensor:
    """Points outside [0, 1] brought back as by mirrors at its ends."""
    folded = points.remainder(2)
    return torch.where(folded > 1, 2 - folded, folded)
