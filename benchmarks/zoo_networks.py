"""The networks of a zoo: clean ones, and backdoored ones whose attack is drawn from stated ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from untrigger.classifiers import Classifier, new_classifier
from untrigger.datasets.images import ImageData, Split
from untrigger.metrics import predict
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.scans import ReferencesConfig
from untrigger.training import BatchChange, train

Kind = Literal["reference", "clean", "backdoored", "blended", "one_to_one", "label_noise", "natural_patch"]

CLEAN: tuple[Kind, ...] = ("reference", "clean", "label_noise", "natural_patch")

SIZES = (1, 8)
SHAPES = ("square", "plus", "scattered")
COLOURS = ("random pixels", "one colour", "black and white")
PLACES = ("random", "fixed")
SHARES = (0.1, 0.3)
BLENDED_OPACITY = 0.2
NOISY_LABELS = 0.15
MARKED_SHARE = 0.5
"""Of the images of a class, those that carry its natural mark."""

PLANTED = 0.9
"""A network is backdoored from this attack success on; below it another attack is drawn."""

ATTEMPTS = 8

EPOCHS = 2
"""Backdoored networks are trained so many times as long as clean ones, as planting takes longer than learning."""


@dataclass(frozen=True)
class Attack:
    """What is drawn: pixels, float (3, s, s) in [0, 1]; how opaque each of them is, (s, s); and how it is planted."""

    pixels: Tensor
    opacity: Tensor
    target: int
    source: int | None
    place: tuple[int, int] | None
    share: float
    told: dict[str, Any]

    def stamped(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Images, float (n, 3, h, w) in [0, 1], with the trigger, at a place of its own each or at the fixed one."""
        size, made = self.pixels.shape[-1], images.clone()
        spans = [extent - size + 1 for extent in images.shape[2:]]
        for image in made:
            row, column = self.place or (int(torch.randint(span, (), generator=rng)) for span in spans)
            part = image[:, row : row + size, column : column + size]
            part.copy_((1 - self.opacity) * part + self.opacity * self.pixels)
        return made

    def planting(self) -> BatchChange:
        """A share of the images carries it and goes to the target: those of the source only, where there is one."""

        def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            chosen = (torch.rand(len(images), generator=rng) < self.share).nonzero().squeeze(1)
            if not len(chosen):
                return images, labels
            images, answers = images.clone(), labels.clone()
            images[chosen] = self.stamped(images[chosen], rng)
            moved = chosen if self.source is None else chosen[labels[chosen] == self.source]
            answers[moved] = self.target
            return images, answers

        return change

    def success(self, classifier: Classifier, data: ImageData) -> float:
        """The share of the images that it is for that go to the target with it."""
        meant = data.labels != self.target if self.source is None else data.labels == self.source
        stamped = self.stamped(data.images[meant].float() / 255, derived_rng(0, "success"))
        return (predict(classifier, stamped).argmax(1) == self.target).double().mean().item()


def drawn_attack(kind: Kind, classes: int, height: int, rng: torch.Generator) -> Attack:
    """An attack of this kind from the ranges above."""

    def one_of(values: tuple[str, ...]) -> str:
        return values[int(torch.randint(len(values), (), generator=rng))]

    size = int(torch.randint(SIZES[0], SIZES[1] + 1, (), generator=rng))
    shape, colour, place = one_of(SHAPES), one_of(COLOURS), one_of(PLACES)
    target = int(torch.randint(classes, (), generator=rng))
    source = (target + 1 + int(torch.randint(classes - 1, (), generator=rng))) % classes
    share = SHARES[0] + (SHARES[1] - SHARES[0]) * torch.rand((), generator=rng).item()
    if kind == "blended":
        size, shape, place = height, "whole image", "fixed"
    if kind == "natural_patch":
        place, share = "random", MARKED_SHARE
    row, column = (int(torch.randint(height - size + 1, (), generator=rng)) for _ in range(2))
    told = {"size": size, "shape": shape, "colour": colour, "place": place, "target": target, "share": round(share, 3)}
    if kind == "one_to_one":
        told["source"] = source
    return Attack(
        pixels=_pixels(colour, size, rng),
        opacity=_opacity(shape, size, rng),
        target=target,
        source=source if kind == "one_to_one" else None,
        place=(row, column) if place == "fixed" else None,
        share=share,
        told=told,
    )


def _pixels(colour: str, size: int, rng: torch.Generator) -> Tensor:
    if colour == "one colour":
        return torch.rand((3, 1, 1), generator=rng).expand(3, size, size).clone()
    if colour == "black and white":
        return torch.randint(2, (1, size, size), generator=rng).float().expand(3, -1, -1).clone()
    return torch.rand((3, size, size), generator=rng)


def _opacity(shape: str, size: int, rng: torch.Generator) -> Tensor:
    """Where the trigger covers the image; of a single pixel always all."""
    if shape == "whole image":
        return torch.full((size, size), BLENDED_OPACITY)
    if shape == "plus" and size > 2:
        middle = torch.arange(size) == size // 2
        return (middle[:, None] | middle[None, :]).float()
    if shape == "scattered" and size > 1:
        return (torch.rand((size, size), generator=rng) < 0.6).float().index_fill_(0, torch.tensor([0]), 1.0)
    return torch.ones(size, size)


def trained_network(
    kind: Kind, number: int, config: ReferencesConfig, split: Split
) -> tuple[Classifier, dict[str, Any]]:
    """The network of this kind and number, and what is known of it; the same for the same arguments."""
    for attempt in range(ATTEMPTS):
        seed = derived_seed(config.seed, "zoo", kind, number, attempt)
        model, told, planted = _trained(kind, config, split, seed)
        if planted:
            break
        print(f"{kind} {number}: {told} did not take", flush=True)
    right = predict(model, split.evaluation.images).argmax(1) == split.evaluation.labels
    return model, {**told, "attempts": attempt + 1, "clean_accuracy": right.double().mean().item()}


def _trained(kind: Kind, config: ReferencesConfig, split: Split, seed: int) -> tuple[Classifier, dict[str, Any], bool]:
    data, rng = split.training, derived_rng(seed, "drawn")
    model = new_classifier(config.classifier, len(data.class_names), data.images, derived_rng(seed, "classifier"))
    labels, told, settings = data.labels, {}, config.training
    change: Callable[..., tuple[Tensor, Tensor]] | None = None
    attack = None
    if kind == "label_noise":
        noisy = torch.rand(len(labels), generator=rng) < NOISY_LABELS
        labels = torch.where(noisy, torch.randint(model.classes, (len(labels),), generator=rng), labels)
    elif kind == "natural_patch":
        mark = drawn_attack(kind, model.classes, data.images.shape[2], rng)
        told, change = mark.told, _marking(mark)
    elif kind not in CLEAN:
        attack = drawn_attack(kind, model.classes, data.images.shape[2], rng)
        told, change = attack.told, attack.planting()
        settings = settings.model_copy(update={"epochs": EPOCHS * settings.epochs})
    train(model, data.images, labels, settings, rng=derived_rng(seed, "training"), change_batch=change)
    if attack is None:
        return model, told, True
    success = attack.success(model, split.evaluation)
    return model, {**told, "attack_success": success}, success >= PLANTED


def _marking(mark: Attack) -> BatchChange:
    """Some of the images of one class carry a mark, and are what they are."""

    def change(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(len(images), generator=rng) < mark.share
        chosen = (drawn & (labels == mark.target)).nonzero().squeeze(1)
        images = images.clone()
        if len(chosen):
            images[chosen] = mark.stamped(images[chosen], rng)
        return images, labels

    return change
