"""The one training loop: clean training, poison training and retraining all run through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from untrigger.classifiers import Classifier
from untrigger.errors import UserError
from untrigger.seeding import forked, moved
from untrigger.settings.base import Sparse, Stored
from untrigger.settings.methods import TrainingSettings
from untrigger.snapshots import UNKEPT, Snapshot, State, load_optimiser, rng_states, set_rng_states

BatchChange = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images float (b, 3, h, w) in [0, 1] and labels (b,) to what is trained on in their place."""

Gradient = Callable[[Classifier, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Leaves the gradient of a batch, as `BatchChange` gives it, in the weights; returns its loss, (), and its logits."""

OnEpoch = Callable[[int, dict[str, float]], None]
"""Called after each epoch with its number, from 1, and its metrics."""


Curve = tuple[dict[str, float], ...]
"""The metrics of each epoch, as `OnEpoch` gets them."""


class TrainingCurves(Sparse, Stored):
    """How a classifier came to be: clean training, and poison training where there was one."""

    FILE = "curves.json"

    clean: Curve
    poisoned: Curve | None = None


def plain_gradient(classifier: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The `Gradient` of the cross-entropy at the weights as they are."""
    classifier.zero_grad(set_to_none=True)
    logits = classifier(images)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    return loss.detach(), logits.detach()


def train(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
    *,
    rng: torch.Generator,
    change_batch: BatchChange | None = None,
    gradient: Gradient = plain_gradient,
    on_epoch: OnEpoch | None = None,
    snapshot: Snapshot = UNKEPT,
) -> None:
    """Train `classifier` in place with SGD on cross-entropy; its batch norm is left in evaluation mode.

    images: uint8 (n, 3, h, w), labels: int64 (n,), both on the classifier's device. `change_batch` may stamp and
    relabel each batch; `gradient` gives what is descended along. All randomness comes from `rng` (on the CPU): the
    order of the images, their augmentation and the changes have a stream each, so that the first two are the same
    whatever the changes. A ragged last batch of one image is left out, since batch norm cannot learn from it. Metrics
    per epoch: `loss` and `accuracy` on the changed batches. `snapshot` keeps the training, and gives it back to go on
    with. Raises UserError when the loss of an epoch is not finite.
    """
    starts = [s for s in range(0, len(images), settings.batch_size) if len(images) - s > 1]
    optimiser = torch.optim.SGD(
        classifier.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    schedule = _schedule(optimiser, settings, settings.epochs * len(starts))
    rngs = order_rng, augmentation_rng, change_rng = forked(rng, "order", "augmentation", "changes")
    first = _restore(snapshot.restored(), classifier, optimiser, schedule, rngs)
    for epoch in range(first, settings.epochs + 1):
        classifier.train()
        order = torch.randperm(len(images), generator=order_rng).to(images.device)
        losses, correct = [], []
        for start in starts:
            chosen = order[start : start + settings.batch_size]
            batch, answers = images[chosen], labels[chosen]
            if settings.augment:
                batch = _crop_and_mirror(batch, augmentation_rng)
            batch = batch.float() / 255
            if change_batch is not None:
                batch, answers = change_batch(batch, answers, change_rng)
            loss_of_batch, logits = gradient(classifier, batch, answers)
            optimiser.step()
            schedule.step()
            losses.append(loss_of_batch)
            correct.append((logits.argmax(1) == answers).float().mean())
        loss, accuracy = torch.stack(losses).mean().item(), torch.stack(correct).mean().item()
        if not math.isfinite(loss):
            raise UserError(f"training diverged in epoch {epoch}, its loss is {loss}: lower the learning rate")
        if on_epoch is not None:
            classifier.eval()
            on_epoch(epoch, {"loss": loss, "accuracy": accuracy})
        snapshot.offer(partial(_state, epoch, classifier, optimiser, schedule, rngs), last=epoch == settings.epochs)
    classifier.eval()


def _state(
    epoch: int,
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    rngs: Sequence[torch.Generator],
) -> State:
    """All that the epochs after `epoch` depend on."""
    return {
        "epoch": epoch,
        "classifier": classifier.state_dict(),
        "optimiser": optimiser.state_dict(),
        "steps": schedule.last_epoch,
        "rngs": rng_states(rngs),
    }


def _restore(
    state: State | None,
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    rngs: Sequence[torch.Generator],
) -> int:
    """Bring all back to what `_state` gave; the epoch that comes next, the first one without a state."""
    if state is None:
        return 1
    classifier.load_state_dict(state["classifier"])
    load_optimiser(optimiser, state["optimiser"])
    # Both schedules follow from the number of steps and from what the optimiser keeps.
    schedule.last_epoch = state["steps"]
    set_rng_states(rngs, state["rngs"])
    return int(state["epoch"]) + 1


def _schedule(
    optimiser: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    # A rise that ends with the very first of few steps makes OneCycleLR divide by zero.
    rise = max(0.2, 2 / (steps + 1))
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps + 1, pct_start=rise, cycle_momentum=False
    )


def _crop_and_mirror(images: Tensor, rng: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to `padding` pixels, its border reflected, and mirror half of them."""
    n, _, height, width = images.shape
    tops = torch.randint(2 * padding + 1, (n, 1), generator=rng)
    lefts = torch.randint(2 * padding + 1, (n, 1), generator=rng)
    mirrored = torch.rand((n, 1), generator=rng) < 0.5
    rows = moved(_reflected(tops - padding + torch.arange(height), height), images.device)
    columns = _reflected(lefts - padding + torch.arange(width), width)
    columns = moved(torch.where(mirrored, columns.flip(1), columns), images.device)
    which = torch.arange(n, device=images.device)
    return images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Positions outside 0 ... size - 1 brought back as by a mirror on the first and the last of them."""
    positions = positions.abs()
    return torch.where(positions < size, positions, 2 * (size - 1) - positions)
