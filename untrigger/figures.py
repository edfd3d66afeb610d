"""The pictures of the report, drawn with matplotlib into PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from untrigger.generators import TOLERANCE

DPI = 110
THUMBNAILS_PER_STAIR = 60

STAIR_COLOURS = plt.get_cmap("viridis")
SINGLE_COLOUR = "#ff7f0e"
TRUE_COLOUR = "#d62728"


def draw_embedding(triggers: Tensor, group: Tensor, places: Tensor, betas: Sequence[float], path: Path) -> None:
    """The t-SNE panel: a point per trigger, thumbnails framed in the colour of their group.

    triggers: float (k, 3, th, tw); group: int (k,), the stair's index, -1 for a reversed trigger, -2 for the true one;
    places: float (k, 2).
    """
    figure, axes = plt.subplots(figsize=(10, 7.5))
    for index, beta in enumerate(betas):
        colour = _stair_colour(index, betas)
        members = (group == index).nonzero().squeeze(1)
        axes.scatter(
            places[members, 0].numpy(),
            places[members, 1].numpy(),
            s=10,
            color=colour,
            alpha=0.6,
            label=f"generator beta={beta}",
        )
        for member in members[:THUMBNAILS_PER_STAIR].tolist():
            _thumbnail(axes, triggers[member], places[member], colour, size=12)
    for mark, label, colour in ((-1, "single reversed trigger", SINGLE_COLOUR), (-2, "true trigger", TRUE_COLOUR)):
        members = (group == mark).nonzero().squeeze(1)
        if len(members):
            axes.scatter(
                places[members, 0].numpy(), places[members, 1].numpy(), s=60, color=colour, marker="s", label=label
            )
        for member in members.tolist():
            _thumbnail(axes, triggers[member], places[member], colour, size=26)
    axes.set(xticks=[], yticks=[], title="Triggers that open the backdoor (t-SNE of their pixels)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _save(figure, path)


def draw_attack(images: Tensor, stamped: Tensor, trigger: Tensor, path: Path) -> None:
    """Clean images above the same ones with the trigger, float (n, 3, h, w) in [0, 1] each, and the trigger itself."""
    count = len(images)
    figure, axes = plt.subplots(2, count + 1, figsize=(1.2 * (count + 1), 2.7))
    for column in range(count):
        _show(axes[0][column], images[column])
        _show(axes[1][column], stamped[column])
    _show(axes[1][count], trigger)
    axes[0][count].axis("off")
    axes[0][0].set_title("clean", loc="left", fontsize=9)
    axes[1][0].set_title("triggered", loc="left", fontsize=9)
    axes[1][count].set_title("trigger", fontsize=9)
    _save(figure, path)


def draw_samples(triggers: Tensor, beta: float, path: Path, columns: int = 20) -> None:
    """A grid of samples of one generator, float (k, 3, th, tw) in [0, 1]."""
    rows = -(-len(triggers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.42 * columns, 0.42 * rows + 0.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, trigger in zip(axes.flat, triggers, strict=False):
        _show(axis, trigger)
    figure.suptitle(f"samples of the generator for beta = {beta}", fontsize=10)
    _save(figure, path)


def draw_stairs(
    betas: Sequence[float],
    curves: Sequence[Sequence[Mapping[str, float]]],
    fresh: Sequence[Sequence[float]],
    path: Path,
) -> None:
    """Per stair: F and mutual information per epoch, and the histogram of F over fresh samples."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    for index, beta in enumerate(betas):
        colour = _stair_colour(index, betas)
        epochs = range(1, len(curves[index]) + 1)
        axes[0].plot(epochs, [point["F"] for point in curves[index]], color=colour, label=f"beta = {beta}")
        axes[0].axhline(beta, color=colour, linestyle=":", linewidth=1)
        axes[1].plot(epochs, [point["mutual_information"] for point in curves[index]], color=colour)
        axes[2].hist(fresh[index], bins=[b / 50 for b in range(51)], color=colour, alpha=0.6, label=f"beta = {beta}")
        axes[2].axvline(beta - TOLERANCE, color=colour, linestyle=":", linewidth=1)
    axes[0].set(title="F of the triggers in training", xlabel="epoch", ylim=(0, 1))
    axes[0].legend(frameon=False)
    axes[1].set(title="mutual information in training (nats)", xlabel="epoch")
    axes[2].set(title="F of fresh samples (dotted: valid from here)", xlabel="F")
    axes[2].legend(frameon=False, loc="upper left")
    _save(figure, path)


def draw_methods(defenses: Sequence[Mapping[str, Any]], before: Mapping[str, float], path: Path) -> None:
    """Attack success rate per method: a bar at the mean, a dot per seed."""
    methods = list(dict.fromkeys(str(row["method"]) for row in defenses))
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(methods) + 1.4))
    for place, method in enumerate(methods):
        rates = [100 * row["attack_success_rate"] for row in defenses if row["method"] == method]
        colour = SINGLE_COLOUR if method == "single_trigger" else TRUE_COLOUR if method == "ideal" else "#4878a8"
        axes.barh(place, sum(rates) / len(rates), color=colour, alpha=0.55)
        axes.plot(rates, [place] * len(rates), "o", color="black", markersize=4)
    axes.axvline(100 * before["attack_success_rate"], color="grey", linestyle=":", label="before")
    axes.set(yticks=range(len(methods)), yticklabels=methods, xlabel="attack success rate after defence (%)")
    axes.set_xlim(0, 105)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def draw_training(
    poisoning: Mapping[str, Sequence[Mapping[str, float]]],
    retraining: Mapping[str, Sequence[Mapping[str, float]]],
    path: Path,
) -> None:
    """Curves per epoch: the loss of all phases, the attack while the backdoor is planted, the defences' loss."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    clean, poisoned = poisoning["clean"], poisoning["poisoned"]
    later = range(len(clean) + 1, len(clean) + len(poisoned) + 1)
    axes[0].plot(range(1, len(clean) + 1), [point["loss"] for point in clean], label="clean training")
    axes[0].plot(later, [point["loss"] for point in poisoned], label="poison training")
    axes[0].set(title="loss", xlabel="epoch")
    axes[1].plot(later, [point["clean_accuracy"] for point in poisoned], label="clean accuracy")
    axes[1].plot(later, [point["attack_success_rate"] for point in poisoned], label="attack success rate")
    axes[1].set(title="planting the backdoor", xlabel="epoch", ylim=(0, 1.02))
    for method, curve in retraining.items():
        axes[2].plot(range(1, len(curve) + 1), [point["loss"] for point in curve], label=method)
    axes[2].set(title="loss in retraining (first seed)", xlabel="epoch")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _stair_colour(index: int, betas: Sequence[float]) -> Any:
    return STAIR_COLOURS(0.15 + 0.7 * index / max(1, len(betas) - 1))


def _thumbnail(axes: Axes, trigger: Tensor, place: Tensor, colour: Any, size: int) -> None:
    picture = OffsetImage(_pixels(trigger), zoom=size / max(trigger.shape[-2:]), interpolation="nearest")
    frame = {"edgecolor": colour, "linewidth": 1.5, "boxstyle": "square,pad=0.05"}
    axes.add_artist(AnnotationBbox(picture, tuple(place.tolist()), bboxprops=frame))


def _show(axis: Axes, picture: Tensor) -> None:
    axis.imshow(_pixels(picture), vmin=0, vmax=1, interpolation="nearest")
    axis.axis("off")


def _pixels(picture: Tensor) -> Any:
    return picture.permute(1, 2, 0).clamp(0, 1).numpy()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
