"""The baseline: reverse a single trigger by gradient descent in pixel space."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier, frozen
from untrigger.seeding import moved
from untrigger.settings.base import Stored
from untrigger.settings.methods import PixelSgdSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.triggers import check_fits


class ReversedMeasurement(Stored):
    """What the reversed triggers do to the defender's images: F and attack success rate of each, its loss per step."""

    FILE = "measurement.json"

    F: tuple[float, ...]
    attack_success_rate: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]


def reverse_triggers(
    classifier: Classifier,
    images: Tensor,
    target_class: int,
    size: tuple[int, int],
    settings: PixelSgdSettings,
    *,
    rng: torch.Generator,
    on_restart: Callable[[int, list[float]], None] | None = None,
    snapshot: Snapshot = UNKEPT,
) -> Tensor:
    """Reverse one trigger per restart: float (restarts, 3, height, width) in [0, 1], on the CPU.

    images: uint8 (n, 3, h, w), those of the defender that are searched with (`ImageData.for_search`); size: height and
    width of the trigger. Each restart starts uniform in [0, 1] and descends the cross-entropy to `target_class` in
    normalised pixel space, clipped after every step. `on_restart` gets the number of each restart, from 1, and its loss
    per step. Source: the baseline of section 5 of the paper.
    """
    check_fits(size, images)
    fixed = frozen(classifier, images)
    triggers: list[Tensor] = []
    if (state := snapshot.restored()) is not None:
        triggers = state["triggers"]
        rng.set_state(state["rng"])
    for restart in range(len(triggers) + 1, settings.restarts + 1):
        trigger, losses = _descend(fixed, images, target_class, size, settings, rng)
        triggers.append(trigger.cpu())
        if on_restart is not None:
            on_restart(restart, losses)
        snapshot.offer(lambda: {"triggers": triggers, "rng": rng.get_state()}, last=restart == settings.restarts)
    return torch.stack(triggers)


def _descend(
    fixed: Classifier,
    images: Tensor,
    target_class: int,
    size: tuple[int, int],
    settings: PixelSgdSettings,
    rng: torch.Generator,
) -> tuple[Tensor, list[float]]:
    mean, std = fixed.mean[:, None, None], fixed.std[:, None, None]
    start = torch.rand((3, *size), generator=rng).to(images.device)
    normalised = ((start - mean) / std).requires_grad_()
    optimiser = torch.optim.SGD([normalised], lr=settings.learning_rate, momentum=settings.momentum)
    cross_entropy = nn.CrossEntropyLoss()
    losses = []
    for _ in range(settings.steps):
        chosen = moved(torch.randint(len(images), (settings.batch_size,), generator=rng), images.device)
        pixels = normalised * std + mean
        # Rounding can leave a clipped pixel a hair outside [0, 1], where clipping has no gradient.
        pixels = pixels + (pixels.clamp(0, 1) - pixels).detach()
        answers = torch.full((settings.batch_size,), target_class, device=images.device)
        loss = cross_entropy(fixed.classify_stamped(images[chosen], pixels[None], rng), answers)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            normalised.copy_(((normalised * std + mean).clamp(0, 1) - mean) / std)
        losses.append(loss.detach())
    return (normalised * std + mean).detach().clamp(0, 1), torch.stack(losses).tolist()
