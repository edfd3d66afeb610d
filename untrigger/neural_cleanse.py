"""Neural Cleanse: the smallest mask and pattern on the whole image that sends images to a class, and its index.

Source: Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
sections IV and V.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.classifiers import Classifier, frozen, pictures_at_once
from untrigger.seeding import moved
from untrigger.settings.methods import MaskSettings
from untrigger.settings.plans import batched

OnStep = Callable[[int, int], None]
"""Told which step of how many is done."""

SUCCESS = 0.99
"""A mask counts where so large a share of the images goes to its class."""

SEEN = 0.1
"""A pixel counts as covered where the mask lets so much of the pattern through."""

COMPARED_IMAGES = 128
"""Images on which patterns under one mask are compared."""

WEIGHED_EVERY = 10
"""Steps after which the weight of the mask's norm is adapted, by the success in them."""

FIRST_WEIGHT = 1e-3
"""Of the norm in pixels against the cross-entropy, at first."""

FACTOR = 1.5
"""By which the weight rises where the mask succeeds, and falls where it fails."""

CONSISTENT = 1.4826
"""Makes the median absolute deviation of normal values their standard deviation."""

FLAGGED = 2.0
"""An index above this flags a class."""


@dataclass(frozen=True)
class Masks:
    """Per class a mask, float (classes, h, w), and a pattern, float (classes, 3, h, w), both in [0, 1]."""

    masks: Tensor
    patterns: Tensor

    @property
    def norms(self) -> Tensor:
        """The L1 norm of each mask in pixels, (classes,); that of the whole image where nothing succeeded."""
        return self.masks.flatten(1).sum(1)

    def applied(self, number: int | Tensor, images: Tensor) -> Tensor:
        """Images, (n, 3, h, w), uint8 or float in [0, 1], under a mask: float in [0, 1].

        number: of one mask for all images, or of one for each, int64 (n,).
        """
        mask = self.masks[number].unsqueeze(-3)
        pixels = images if images.is_floating_point() else images.float() / 255
        return (1 - mask) * pixels + mask * self.patterns[number]

    @property
    def shown(self) -> Tensor:
        """What each mask lets through of its pattern, float (classes, 3, h, w)."""
        return self.masks[:, None] * self.patterns

    def of(self, numbers: Sequence[int]) -> Masks:
        """Those of these numbers."""
        return Masks(self.masks[list(numbers)], self.patterns[list(numbers)])

    def to(self, device: torch.device) -> Masks:
        return Masks(self.masks.to(device), self.patterns.to(device))


@dataclass(frozen=True)
class FoundPatterns:
    """Patterns under one mask, and the mean probability of their class under each, float64 (k,)."""

    masks: Masks
    strengths: Tensor

    @property
    def strongest(self) -> Masks:
        """The strongest alone."""
        return self.masks.of([int(self.strengths.argmax())])

    @property
    def strength(self) -> float:
        """That of the strongest."""
        return self.strengths.max().item()


def joined(masks: Sequence[Masks]) -> Masks:
    """All of some masks as one collection."""
    return Masks(torch.cat([each.masks for each in masks]), torch.cat([each.patterns for each in masks]))


def widened(mask: Tensor) -> Tensor:
    """Where a mask, float (h, w), lets anything through, and the pixels around: 0 or 1.

    The smallest mask is a part of the trigger as a rule, a few of its pixels: what was trained on more answers to them.
    """
    return torch.nn.functional.max_pool2d((mask > SEEN).float()[None], 3, stride=1, padding=1)[0]


class UnderMasks(Attack):
    """Each image under one of some masks, drawn at random.

    With the true labels kept it unlearns them. Source: section VI.B of Wang et al.
    """

    no_patch = "the trigger is a mask with a pattern on the whole image"

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        drawn = torch.randint(len(self.masks.masks), (len(images),), generator=rng)
        return self.masks.to(images.device).applied(moved(drawn, images.device), images)


def anomaly_indices(norms: Sequence[float]) -> list[float]:
    """How far each norm lies below the median of all, in consistent median absolute deviations; negative above it."""
    middle = statistics.median(norms)
    deviation = CONSISTENT * statistics.median(abs(norm - middle) for norm in norms)
    return [(middle - norm) / max(deviation, 1e-9) for norm in norms]


def reverse_masks(
    classifier: Classifier,
    images: Tensor,
    allowed: Mapping[int, Tensor],
    settings: MaskSettings,
    *,
    rng: torch.Generator,
    on_step: OnStep | None = None,
) -> Masks:
    """The smallest mask found per class that sends images to it.

    images: uint8 (n, 3, h, w); allowed: per target class the images to search on, int64 (m,). Where none succeeds
    the mask is the whole image. As many classes go through the network together as memory is meant for.
    """
    fixed, parts = frozen(classifier, images), _parts(images, allowed, settings.mask_images_per_step)
    found: list[Masks] = []
    for part in parts:
        tell = _part_of(on_step, len(found), len(parts))
        found.append(_reversed_together(fixed, images, part, settings, rng, tell))
    return joined(found)


def _parts(images: Tensor, allowed: Mapping[int, Tensor], count: int) -> list[dict[int, Tensor]]:
    """`allowed` in parts of as many classes as go through a network together with `count` images each."""
    classes = batched(list(allowed), max(1, pictures_at_once(images) // count))
    return [{target: allowed[target] for target in part} for part in classes]


def _part_of(on_step: OnStep | None, done: int, parts: int) -> OnStep | None:
    """What tells the steps of one of the parts as steps of all."""
    return None if on_step is None else lambda step, steps: on_step(done * steps + step, parts * steps)


def _reversed_together(
    fixed: Classifier,
    images: Tensor,
    allowed: Mapping[int, Tensor],
    settings: MaskSettings,
    rng: torch.Generator,
    on_step: OnStep | None,
) -> Masks:
    classes = list(allowed)
    height, width = images.shape[2:]
    start = moved(torch.rand((len(classes), 4, height, width), generator=rng), images.device)
    raw = (2 * start - 1).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=settings.mask_learning_rate, betas=(0.5, 0.9))
    targets = torch.tensor(classes, device=images.device).repeat_interleave(settings.mask_images_per_step)
    search = _Weights(len(classes), height * width, images.device)
    best, smallest = torch.ones_like(start), torch.full((len(classes),), float(height * width), device=images.device)
    for step in range(1, settings.mask_steps + 1):
        pictures = _drawn(images, list(allowed.values()), settings.mask_images_per_step, rng)
        both = torch.sigmoid(4 * raw)
        masks = both[:, None, :1]
        logits = _logits_under(fixed, masks, both[:, None, 1:], pictures)
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none").view(len(classes), -1).mean(1)
        norms = masks.flatten(1).sum(1)
        right = (logits.argmax(1) == targets).view(len(classes), -1).float().mean(1)
        search.see(right)
        if step % WEIGHED_EVERY == 0:
            better = search.weigh() & (norms < smallest)
            smallest = torch.where(better, norms.detach(), smallest)
            best = torch.where(better[:, None, None, None], both.detach(), best)
        optimiser.zero_grad(set_to_none=True)
        (losses + search.weights * norms).sum().backward()
        optimiser.step()
        if on_step is not None:
            on_step(step, settings.mask_steps)
    return Masks(best[:, 0].cpu(), best[:, 1:].cpu())


def strongest_patterns(
    classifier: Classifier,
    images: Tensor,
    allowed: Mapping[int, Tensor],
    mask: Tensor,
    settings: MaskSettings,
    *,
    restarts: int = 1,
    rng: torch.Generator,
    on_step: OnStep | None = None,
) -> list[FoundPatterns]:
    """What can be found under one mask, float (h, w), for each target class: the patterns that send most images there.

    images and allowed: as in `reverse_masks`. Each restart begins at random and descends the cross-entropy by Adam. As
    many classes, with all their restarts, go through the network together as memory is meant for.
    """
    fixed, parts = frozen(classifier, images), _parts(images, allowed, restarts * settings.mask_images_per_step)
    found: list[FoundPatterns] = []
    for number, part in enumerate(parts):
        tell = _part_of(on_step, number, len(parts))
        found += _patterns_together(fixed, images, part, mask, settings, restarts, rng, tell)
    return found


def _patterns_together(
    fixed: Classifier,
    images: Tensor,
    allowed: Mapping[int, Tensor],
    mask: Tensor,
    settings: MaskSettings,
    restarts: int,
    rng: torch.Generator,
    on_step: OnStep | None,
) -> list[FoundPatterns]:
    targets = [target for target in allowed for _ in range(restarts)]
    sources, wanted = [allowed[target] for target in targets], torch.tensor(targets, device=images.device)
    start = moved(torch.rand((len(targets), 3, *mask.shape), generator=rng), images.device)
    raw, masks = (2 * start - 1).requires_grad_(), mask.to(images.device).expand(len(targets), 1, 1, *mask.shape)
    optimiser = torch.optim.Adam([raw], lr=settings.mask_learning_rate)
    count = settings.mask_images_per_step
    for step in range(1, settings.mask_steps + 1):
        logits = _logits_under(fixed, masks, torch.sigmoid(4 * raw)[:, None], _drawn(images, sources, count, rng))
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits, wanted.repeat_interleave(count), reduction="sum").backward()
        optimiser.step()
        if on_step is not None:
            on_step(step, settings.mask_steps)
    patterns = torch.sigmoid(4 * raw.detach())
    with torch.no_grad():
        logits = _logits_under(fixed, masks, patterns[:, None], _drawn(images, sources, COMPARED_IMAGES, rng))
    chances = fixed.probabilities(logits).view(len(targets), COMPARED_IMAGES, -1)
    strengths = chances.gather(2, wanted[:, None, None].expand(-1, COMPARED_IMAGES, 1)).double().mean((1, 2)).cpu()
    return [
        FoundPatterns(Masks(mask.cpu().expand(restarts, -1, -1), own.cpu()), strength)
        for own, strength in zip(patterns.split(restarts), strengths.split(restarts), strict=True)
    ]


def _drawn(images: Tensor, sources: Sequence[Tensor], count: int, rng: torch.Generator) -> Tensor:
    """Images at random from each of the sources, float (sources, count, 3, h, w) in [0, 1]."""
    drawn = [each[torch.randint(len(each), (count,), generator=rng)] for each in sources]
    return images[moved(torch.stack(drawn), images.device)].float() / 255


def _logits_under(fixed: Classifier, masks: Tensor, patterns: Tensor, pictures: Tensor) -> Tensor:
    """Logits, (k * n, classes), of pictures, (k, n, 3, h, w); masks: (k, 1, 1, h, w); patterns: (k, 1, 3, h, w)."""
    shown = (1 - masks) * pictures + masks * patterns
    return fixed.classify(fixed.normalise(shown.flatten(0, 1)))


class _Weights:
    """Of each mask's norm: it rises while the mask succeeds, so that the mask shrinks, and falls while it fails."""

    def __init__(self, classes: int, pixels: int, device: torch.device) -> None:
        self.weights = torch.full((classes,), FIRST_WEIGHT, device=device)
        self._seen: list[Tensor] = []

    def see(self, right: Tensor) -> None:
        """The share of a step's images that each mask sent to its class."""
        self._seen.append(right)

    def weigh(self) -> Tensor:
        """Adapt the weights; which masks succeeded since the last time."""
        succeeded = torch.stack(self._seen).mean(0) >= SUCCESS
        self._seen.clear()
        self.weights = torch.where(succeeded, self.weights * FACTOR, self.weights / FACTOR)
        return succeeded
