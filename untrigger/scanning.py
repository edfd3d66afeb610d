"""The scan of a classifier for whatever opens it: the strongest patch of each size and the smallest mask per class.

The effort goes where something is found: all patches of a size take some steps, then the better half of classes and
patches takes twice as many, and so on (sequential halving; Jamieson and Talwalkar, "Non-stochastic Best Arm
Identification and Hyperparameter Optimization", AISTATS 2016). It is counted in steps, and each patch draws from a
stream of its own, so that the same seed finds the same however the work is divided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untrigger.classifiers import Classifier, frozen, tempered
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.judge import PICTURES_AT_ONCE
from untrigger.measurements import MASK, Arm, Measured
from untrigger.metrics import predict
from untrigger.neural_cleanse import Masks, anomaly_indices, reverse_masks
from untrigger.seeding import derived_rng, forked, moved
from untrigger.settings.scans import ScanSettings
from untrigger.triggers import draw_positions

COMPARED_IMAGES = 16
"""Images searched on, on which the patches of a size are compared after each round."""

ACCURACY_IMAGES = 2000
"""Of the defender's images, those that the accuracy is measured on: its standard error is 1.1 points at most."""

LEAST_CLASSES = 2
"""So many classes of a size at least go through all rounds."""

OnWork = Callable[[str, int, int], None]
"""Told what is done of some work: its name, how much, and of how much."""


@dataclass(frozen=True)
class Scan:
    """What was measured, and what was found: per size and class the best patch, float (3, s, s) in [0, 1]; masks."""

    measured: Measured
    patches: Mapping[tuple[str, int], Tensor]
    masks: Masks | None


def scan_classifier(
    classifier: Classifier,
    data: ImageData,
    settings: ScanSettings,
    *,
    rng: torch.Generator,
    chunk: int = PICTURES_AT_ONCE,
    on_work: OnWork | None = None,
) -> Scan:
    """Search with one part of the defender's `data` and measure on another.

    chunk: stamped images in one pass of the classifier, which bounds the memory and changes nothing else. Raises
    UserError when there are too few images, or when a logit is NaN or infinite.
    """
    began, classifier = time.perf_counter(), tempered(classifier, data.images)
    split_rng, patch_rng, mask_rng, accuracy_rng = forked(rng, "images", "patches", "masks", "accuracy")
    searched, heldout = _divided(data, settings, split_rng)
    targets = [number for number in range(classifier.classes) if number != settings.source_class]
    floors = _floors(classifier, heldout, targets)
    seed, arms, patches = patch_rng.initial_seed(), [], {}
    sizes = [size for size in settings.sizes if size < min(data.images.shape[2:])]
    if not sizes and not settings.mask:
        raise UserError(f"none of scan.sizes is below the size of the images, {min(data.images.shape[2:])} pixels")
    for size in sizes:
        search = PatchSearch(classifier, searched, targets, size, settings, seed, chunk, on_work)
        search.run()
        for target, success, patch in search.measured(heldout):
            rounds = search.rounds[target]
            arms.append(
                Arm(search=f"{size}", target_class=target, success=success, floor=floors[target], rounds=rounds)
            )
            patches[f"{size}", target] = patch
    accuracy = _accuracy(classifier, data, accuracy_rng)
    found = Scan(Measured(arms=tuple(arms), seconds=time.perf_counter() - began, accuracy=accuracy), patches, None)
    return (
        _with_masks(found, classifier, searched, heldout, floors, settings, mask_rng, on_work)
        if settings.mask
        else found
    )


def _divided(data: ImageData, settings: ScanSettings, rng: torch.Generator) -> tuple[ImageData, ImageData]:
    """The images to search on and those to measure on, at random; of the source class only, where there is one."""
    chosen, classes = torch.randperm(len(data), generator=rng), len(data.class_names)
    if settings.source_class is not None and settings.source_class >= classes:
        raise UserError(f"scan.source_class must be below the {classes} classes, got {settings.source_class}")
    if settings.source_class is not None:
        chosen = chosen[data.labels.cpu()[chosen] == settings.source_class]
    count = min(settings.search_images, len(chosen) // 2)
    if count < 2:
        raise UserError(f"a scan needs at least 4 images, got {len(chosen)}: give the defender more of the data")
    return data.subset(chosen[:count].numpy()), data.subset(chosen[count : count + settings.heldout_images].numpy())


def _accuracy(classifier: Classifier, data: ImageData, rng: torch.Generator) -> float:
    """The share of images that are recognised, of some of them chosen at random."""
    some = data.subset(torch.randperm(len(data), generator=rng)[:ACCURACY_IMAGES].numpy())
    return _share(predict(classifier, some.images).argmax(1) == some.labels)


def _others(data: ImageData, target: int) -> Tensor:
    """Which of the images are of other classes than the target, int64 (n,) on the CPU."""
    others = (data.labels != target).nonzero().squeeze(1).cpu()
    if not len(others):
        raise UserError(f"every image scanned with belongs to class {target}: there is nothing to send there")
    return others


def _floors(classifier: Classifier, heldout: ImageData, targets: Sequence[int]) -> dict[int, float]:
    """Of the images of other classes, the share that each target class gets without a trigger."""
    answers = predict(classifier, heldout.images).argmax(1)
    return {target: _share(answers[_others(heldout, target).to(answers.device)] == target) for target in targets}


def _with_masks(
    found: Scan,
    classifier: Classifier,
    searched: ImageData,
    heldout: ImageData,
    floors: Mapping[int, float],
    settings: ScanSettings,
    rng: torch.Generator,
    on_work: OnWork | None,
) -> Scan:
    began = time.perf_counter()
    allowed = {target: _others(searched, target) for target in floors}
    on_step = None if on_work is None else lambda done, total: on_work("mask", done, total)
    masks = reverse_masks(classifier, searched.images, allowed, settings.masks, rng=rng, on_step=on_step)
    norms, arms = masks.norms.tolist(), []
    for number, (target, index) in enumerate(zip(floors, anomaly_indices(norms), strict=True)):
        shown = masks.applied(number, heldout.images[_others(heldout, target)].cpu()).to(heldout.images.device)
        success = _share(predict(classifier, shown).argmax(1) == target)
        arms.append(
            Arm(
                search=MASK, target_class=target, success=success, floor=floors[target], norm=norms[number], index=index
            )
        )
    measured = found.measured.model_copy(
        update={"arms": (*found.measured.arms, *arms), "mask_seconds": time.perf_counter() - began}
    )
    return Scan(measured, found.patches, masks)


class PatchSearch:
    """The patches of one size for every class, searched for in rounds."""

    def __init__(
        self,
        classifier: Classifier,
        data: ImageData,
        targets: Sequence[int],
        size: int,
        settings: ScanSettings,
        seed: int,
        chunk: int,
        on_work: OnWork | None,
    ) -> None:
        self.size, self.settings, self.chunk, self._on_work = size, settings, chunk, on_work
        self.classifier = frozen(classifier, data.images)
        self.pictures = self.classifier.normalise(data.images)
        self.others = {target: _others(data, target) for target in targets}
        self.targets = torch.tensor(targets).repeat_interleave(settings.restarts)
        self.rngs = [
            derived_rng(seed, size, target, restart) for target in targets for restart in range(settings.restarts)
        ]
        starts = torch.stack([torch.rand((3, size, size), generator=rng) for rng in self.rngs])
        self.patches = moved(starts, data.images.device)
        self.strengths = torch.zeros(len(self.rngs), dtype=torch.float64)
        self.alive = torch.arange(len(self.rngs))
        self.rounds = dict.fromkeys(targets, 0)

    def run(self) -> None:
        """All rounds; after each the better half goes on."""
        for number in range(1, self.settings.rounds + 1):
            self._descend(self.settings.scaled(self.settings.steps) * 2 ** (number - 1))
            self.strengths[self.alive] = self._compared()
            for target in self.targets[self.alive].unique().tolist():
                self.rounds[target] = number
            if number < self.settings.rounds:
                self.alive = self._better_half()

    def measured(self, heldout: ImageData) -> list[tuple[int, float, Tensor]]:
        """Per target class its success on images held out, and the patch: the best by the images searched on."""
        pictures = self.classifier.normalise(heldout.images)
        found = []
        for target in self.others:
            mine = (self.targets == target).nonzero().squeeze(1)
            # Those that went on were better; their strengths are of later rounds and not below those of the others.
            best = int(mine[self.strengths[mine].argmax()])
            others = _others(heldout, target)
            positions = self._places(self.rngs[best], len(others))
            answers = self._answers(self.patches[best][None], pictures, others[None], positions[None])
            found.append((target, _share(answers.argmax(2) == target), self.patches[best].cpu()))
        return found

    def _descend(self, steps: int) -> None:
        """So many steps of Adam down the cross-entropy to each patch's class, clipped to [0, 1] after every step."""
        alive, count = self.alive.tolist(), self.settings.images_per_step
        drawn = [self._drawn(arm, steps, count) for arm in alive]
        chosen, positions = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        pixels = self.patches[self.alive].requires_grad_()
        optimiser = torch.optim.Adam([pixels], lr=self.settings.learning_rate)
        targets = self.targets[self.alive]
        for step in range(steps):
            optimiser.zero_grad(set_to_none=True)
            for part in torch.arange(len(alive)).split(max(1, self.chunk // count)):
                logits = self._logits(pixels[part], self.pictures, chosen[part, step], positions[part, step])
                wanted = moved(targets[part], logits.device)[:, None, None].expand(-1, count, 1)
                (-logits.log_softmax(2).gather(2, wanted).mean(1).sum()).backward()
            optimiser.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
            if self._on_work is not None:
                self._on_work(f"{self.size}x{self.size}, {len(alive)} patches", step + 1, steps)
        self.patches[self.alive] = pixels.detach()

    def _compared(self) -> Tensor:
        """The mean probability of its class that each living patch reaches on some images searched on, float64 (k,)."""
        found = []
        for part in self.alive.split(max(1, self.chunk // COMPARED_IMAGES)):
            drawn = [self._drawn(arm, 1, COMPARED_IMAGES) for arm in part.tolist()]
            chosen, positions = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            answers = self._answers(self.patches[part], self.pictures, chosen, positions)
            wanted = moved(self.targets[part], answers.device)[:, None, None].expand(-1, COMPARED_IMAGES, 1)
            found.append(answers.gather(2, wanted).double().mean((1, 2)).cpu())
        return torch.cat(found)

    def _better_half(self) -> Tensor:
        """The better half of the classes by their best patch, and of each the better half of its patches."""
        best = {}
        for target in self.targets[self.alive].unique().tolist():
            mine = self.alive[self.targets[self.alive] == target]
            best[target] = mine[self.strengths[mine].argsort(descending=True, stable=True)]
        ranked = sorted(best.values(), key=lambda arms: -self.strengths[arms[0]].item())
        kept = ranked[: max(LEAST_CLASSES, -(-len(ranked) // 2))]
        return torch.cat([arms[: -(-len(arms) // 2)] for arms in kept]).sort().values

    def _drawn(self, arm: int, steps: int, count: int) -> tuple[Tensor, Tensor]:
        """For each step of a patch images of other classes, int64 (steps, n), and places on them, (steps, n, 2)."""
        others = self.others[int(self.targets[arm])]
        chosen = others[torch.randint(len(others), (steps, count), generator=self.rngs[arm])]
        return chosen, self._places(self.rngs[arm], steps * count).view(steps, count, 2)

    def _places(self, rng: torch.Generator, count: int) -> Tensor:
        return draw_positions(count, self.pictures, (self.size, self.size), rng)

    def _answers(self, patches: Tensor, pictures: Tensor, chosen: Tensor, positions: Tensor) -> Tensor:
        """Class probabilities, float (k, n, classes); UserError when a logit is NaN or infinite."""
        with torch.no_grad():
            logits = self._logits(patches, pictures, chosen, positions)
            return self.classifier.probabilities(logits.flatten(0, 1)).view(logits.shape)

    def _logits(self, patches: Tensor, pictures: Tensor, chosen: Tensor, positions: Tensor) -> Tensor:
        """Logits, float (k, n, classes), of patches, (k, 3, s, s), each on its images, (k, n), at places, (k, n, 2)."""
        count, device = chosen.shape[1], pictures.device
        logits = self.classifier.classify_patched(
            pictures[moved(chosen.flatten(), device)],
            patches.repeat_interleave(count, 0),
            moved(positions.flatten(0, 1), device),
        )
        return logits.view(len(patches), count, -1)


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()
