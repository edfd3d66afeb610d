"""The testing function F over one fixed set of images and positions: what defines the set {x : F(x) >= beta}."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untrigger.classifiers import Classifier, frozen, pictures_at_once
from untrigger.seeding import derived_rng
from untrigger.triggers import check_fits, draw_positions

JUDGED_IMAGES = 256
"""Images, and their positions, that F is the mean over."""

ROUGH_IMAGES = 16
"""Images of a rough guess of F."""

RIDGE = 1e-5
"""Keeps the weights of images that stand for all small where the triggers leave them open."""

PICTURES_AT_ONCE = 1024
"""Stamped images in one pass of the classifier: few enough for the caches of a CPU."""


class Judge:
    """F of triggers: the mean probability of the target class over fixed images.

    Each image has its own fixed position, so F is one deterministic function of the trigger: the same for the truth,
    for training and for judging. Images are normalised once and kept so.
    """

    def __init__(
        self, classifier: Classifier, images: Tensor, positions: Tensor, target_class: int, size: tuple[int, int]
    ) -> None:
        """images: uint8 (n, 3, h, w); positions: int64 (n, 2); size: height and width of the triggers."""
        self.classifier = frozen(classifier, images)
        self.pictures = self.classifier.normalise(images)
        self.positions = positions.to(images.device)
        self.target_class = target_class
        self.size = size

    def __len__(self) -> int:
        """How many images it averages over."""
        return len(self.pictures)

    @property
    def dimensions(self) -> int:
        """Numbers in a trigger."""
        return 3 * self.size[0] * self.size[1]

    def probabilities(self, triggers: Tensor, chosen: Tensor | slice = slice(None)) -> Tensor:
        """Probability of the target class, float (k, m), of each trigger on each chosen image; differentiable.

        triggers: float (k, 3, th, tw) or flattened (k, d). chosen: of which images, all by default.
        """
        triggers = triggers.view(-1, 3, *self.size)
        pictures, positions = self.pictures[chosen], self.positions[chosen]
        at_once = PICTURES_AT_ONCE
        if not torch.is_grad_enabled():
            # With gradients the classifier itself divides them, and forgets each part until the way back.
            at_once = min(at_once, pictures_at_once(pictures))
        parts = triggers.split(max(1, at_once // len(pictures)))
        return torch.cat([self._on_each(part, pictures, positions) for part in parts])

    @torch.no_grad()
    def strengths(self, triggers: Tensor) -> Tensor:
        """F of each trigger, float64 (k,); UserError when a logit is NaN or infinite."""
        return self.probabilities(triggers).double().mean(1)

    @torch.no_grad()
    def rough(self, triggers: Tensor) -> Tensor:
        """A guess of F from few of the images, float64 (k,)."""
        return self.probabilities(triggers, slice(ROUGH_IMAGES)).double().mean(1)

    @torch.no_grad()
    def strengths_above(self, triggers: Tensor, level: float) -> Tensor:
        """F of each trigger where it reaches `level`, float64 (k,); elsewhere -1.

        A trigger is given up as soon as F could not reach the level if all further probabilities were 1.
        """
        sums = torch.zeros(len(triggers), dtype=torch.float64, device=triggers.device)
        alive = torch.arange(len(triggers), device=triggers.device)
        left = len(self)
        for chosen in torch.arange(len(self), device=triggers.device).split(-(-len(self) // 8)):
            left -= len(chosen)
            sums[alive] += self.probabilities(triggers[alive], chosen).double().sum(1)
            alive = alive[sums[alive] + left >= level * len(self)]
            if not len(alive):
                break
        strengths = torch.full_like(sums, -1)
        strengths[alive] = sums[alive] / len(self)
        return torch.where(strengths >= level, strengths, -1)

    def some(self, count: int, rng: torch.Generator) -> Guess:
        """F as guessed by `count` images drawn at random: right on average, noisy."""
        chosen = torch.randperm(len(self), generator=rng)[:count].to(self.pictures.device)
        weights = torch.full((len(chosen),), 1 / len(chosen), device=self.pictures.device)
        return Guess(self, chosen, weights, weights.new_zeros(()))

    def guess_near(self, triggers: Tensor) -> Callable[[Tensor], Tensor]:
        """A cheap guess of F, float64 (n,), for triggers like the given ones: by images that stand for all."""
        stand_ins = self.stand_ins(triggers, ROUGH_IMAGES)
        return torch.no_grad()(lambda others: stand_ins(others).double())

    @torch.no_grad()
    def stand_ins(self, triggers: Tensor, count: int) -> Guess:
        """F as guessed by `count` images that stand for all, for triggers like the given ones.

        What a trigger does on one image tells much of what it does on others: F of such triggers is nearly a linear
        function of its probabilities on a few images, chosen one after the other by what they tell of the rest of F
        (orthogonal matching pursuit, with a little of ridge regression). Each call measures F of all `triggers`.
        """
        table = self.probabilities(triggers).double()
        means, strengths = table.mean(0), table.mean(1)
        centred, wanted = table - means, strengths - strengths.mean()
        lengths = centred.norm(dim=0).clamp_min(1e-3)
        chosen: list[int] = []
        weights = rest = wanted
        for _ in range(min(count, len(self))):
            told = (centred.T @ rest).abs() / lengths
            told[chosen] = -1
            chosen.append(int(told.argmax()))
            part = centred[:, chosen]
            ridge = RIDGE * len(part) * torch.eye(len(chosen), dtype=part.dtype, device=part.device)
            weights = torch.linalg.solve(part.T @ part + ridge, part.T @ wanted)
            rest = wanted - part @ weights
        offset = strengths.mean() - means[chosen] @ weights
        return Guess(self, torch.tensor(chosen, device=table.device), weights.float(), offset.float())

    def _on_each(self, triggers: Tensor, pictures: Tensor, positions: Tensor) -> Tensor:
        count = len(pictures)
        logits = self.classifier.classify_patched(
            pictures.expand(len(triggers), -1, -1, -1, -1).flatten(0, 1),
            triggers.repeat_interleave(count, 0),
            positions.repeat(len(triggers), 1),
        )
        # In training the loss tells soon enough, and looking at every pass would make a GPU wait.
        probabilities = logits.softmax(1) if torch.is_grad_enabled() else self.classifier.probabilities(logits)
        return probabilities[:, self.target_class].view(len(triggers), count)


@dataclass(frozen=True)
class Guess:
    """F as a linear function of the probabilities on some of the judge's images; differentiable."""

    judge: Judge
    chosen: Tensor
    weights: Tensor
    offset: Tensor

    def __call__(self, triggers: Tensor) -> Tensor:
        """F of each trigger, float (k,)."""
        return self.judge.probabilities(triggers, self.chosen) @ self.weights + self.offset


def new_judge(
    classifier: Classifier,
    images: Tensor,
    target_class: int,
    size: Sequence[int],
    *,
    count: int = JUDGED_IMAGES,
    rng: torch.Generator,
) -> Judge:
    """A judge on `count` of the images, in random order, at random positions.

    images: uint8 (n, 3, h, w), those of the defender that are searched with (`ImageData.for_search`). Where there are
    fewer, they come again, at further positions.
    """
    chosen, positions = _drawn(images, size, count, rng)
    return Judge(classifier, chosen, positions, target_class, (int(size[0]), int(size[1])))


def judge_of_run(seed: int, classifier: Classifier, images: Tensor, target_class: int, size: Sequence[int]) -> Judge:
    """The judge of the run with this seed, of images as in `new_judge`: one for training, measurements and truth."""
    return new_judge(classifier, images, target_class, size, rng=_rng_of_run(seed))


def images_of_judge(seed: int, images: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What the judge of the run with this seed looks at: images, uint8 (n, 3, h, w), and positions, int64 (n, 2)."""
    return _drawn(images, size, JUDGED_IMAGES, _rng_of_run(seed))


def _rng_of_run(seed: int) -> torch.Generator:
    return derived_rng(seed, "judge")


def _drawn(images: Tensor, size: Sequence[int], count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    check_fits(size, images)
    rounds = [torch.randperm(len(images), generator=rng) for _ in range(-(-count // len(images)))]
    chosen = torch.cat(rounds)[:count].to(images.device)
    return images[chosen], draw_positions(count, images, size, rng)
