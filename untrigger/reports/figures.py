"""The pictures of the report, drawn with matplotlib into PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from untrigger.generators import TOLERANCE, StairCurves
from untrigger.measurements import Rates
from untrigger.reports.grids import GridResult
from untrigger.reports.results import DefenseRow
from untrigger.reports.sweep import BEFORE, TriggerRow, short_name, sweep_methods
from untrigger.reports.tsne import REVERSED_GROUP, TRUE_GROUP, Embedding
from untrigger.settings.plans import ELSEWHERE, method_of
from untrigger.settings.stairs import beta_name
from untrigger.staircase import StairMeasurement
from untrigger.training import Curve, TrainingCurves

DPI = 110
THUMBNAILS_PER_STAIR = 60
F_BINS = [b / 50 for b in range(51)]

STAIR_COLOURS = plt.get_cmap("viridis")
SINGLE_COLOUR = "#ff7f0e"
TRUE_COLOUR = "#d62728"

UNDEFENDED = ("before", "none", "fine_tune")
"""What leaves the backdoor open, and would hide the differences between the others."""


LOWER = 0.28
"""How far below the middle of its bar the strongest trigger left is drawn."""


DARK = 60
"""Per cent from which a cell of a heat map is so dark that its text is white."""


def draw_embedding(embedding: Embedding, betas: Sequence[float], path: Path) -> None:
    """The t-SNE panel: a point per trigger, thumbnails framed in the colour of their group."""
    triggers, group, positions = embedding.triggers, embedding.group, embedding.positions
    figure, axes = plt.subplots(figsize=(10, 7.5))
    for index, beta in enumerate(betas):
        colour = _stair_colour(index, betas)
        members = (group == index).nonzero().squeeze(1)
        axes.scatter(
            positions[members, 0],
            positions[members, 1],
            s=10,
            color=colour,
            alpha=0.6,
            label=f"generator {method_of(beta)}",
        )
        for member in members[:THUMBNAILS_PER_STAIR].tolist():
            _thumbnail(axes, triggers[member], positions[member], colour, size=12)
    for mark, label, colour in (
        (REVERSED_GROUP, "single reversed trigger", SINGLE_COLOUR),
        (TRUE_GROUP, "true trigger", TRUE_COLOUR),
    ):
        members = (group == mark).nonzero().squeeze(1)
        if len(members):
            axes.scatter(positions[members, 0], positions[members, 1], s=60, color=colour, marker="s", label=label)
        for member in members.tolist():
            _thumbnail(axes, triggers[member], positions[member], colour, size=26)
    axes.set(xticks=[], yticks=[], title="The distribution of triggers (t-SNE of their pixels)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _save(figure, path)


def draw_attack(images: Tensor, stamped: Tensor, trigger: Tensor | None, path: Path) -> None:
    """Clean images above the same ones with the trigger, float (n, 3, h, w) in [0, 1] each, and the trigger itself.

    trigger: float (3, th, tw) in [0, 1], None where the attack has no picture of its own.
    """
    count = len(images)
    figure, axes = plt.subplots(2, count + 1, figsize=(1.2 * (count + 1), 2.7))
    for column in range(count):
        _show(axes[0][column], images[column])
        _show(axes[1][column], stamped[column])
    axes[0][count].axis("off")
    axes[1][count].axis("off")
    if trigger is not None:
        _show(axes[1][count], trigger)
        axes[1][count].set_title("trigger", fontsize=9)
    axes[0][0].set_title("clean", loc="left", fontsize=9)
    axes[1][0].set_title("triggered", loc="left", fontsize=9)
    _save(figure, path)


def draw_samples(triggers: Tensor, beta: float, path: Path, columns: int = 20) -> None:
    """A grid of samples of one generator, float (k, 3, th, tw) in [0, 1]."""
    rows = -(-len(triggers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.42 * columns, 0.42 * rows + 0.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, trigger in zip(axes.flat, triggers, strict=False):
        _show(axis, trigger)
    figure.suptitle(f"samples of the generator for beta = {beta_name(beta)}", fontsize=10)
    _save(figure, path)


def draw_found(rows: Mapping[str, Sequence[Tensor]], titles: Sequence[Sequence[str]], path: Path) -> None:
    """A table of pictures, float (3, h, w) in [0, 1]: a row per name, with a title above each picture."""
    columns = max(len(pictures) for pictures in rows.values())
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.3 * columns, 1.45 * len(rows)), squeeze=False)
    for line, (name, pictures), texts in zip(axes, rows.items(), titles, strict=True):
        for axis, picture, text in zip(line, pictures, texts, strict=True):
            _show(axis, picture)
            axis.set_title(text, fontsize=8)
        line[0].text(-0.25, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    _save(figure, path)


def draw_stairs(
    betas: Sequence[float],
    curves: Sequence[StairCurves],
    measured: Sequence[StairMeasurement],
    path: Path,
) -> None:
    """Per stair: F and mutual information (of flows: entropy) in training, and a histogram of F over fresh samples."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    is_flow = "step" in curves[0].generator[0]
    spread, unit = ("entropy", "step") if is_flow else ("mutual_information", "epoch")
    for index, beta in enumerate(betas):
        colour = _stair_colour(index, betas)
        curve = curves[index].generator
        places = [point.get("step", number) for number, point in enumerate(curve, 1)]
        axes[0].plot(places, [point["F"] for point in curve], color=colour, label=f"beta = {beta_name(beta)}")
        level = measured[index].level or beta
        axes[0].axhline(level, color=colour, linestyle=":", linewidth=1)
        axes[1].plot(places, [point[spread] for point in curve], color=colour)
        axes[2].hist(measured[index].F, bins=F_BINS, color=colour, alpha=0.6, label=f"beta = {beta_name(beta)}")
        axes[2].axvline(level - TOLERANCE, color=colour, linestyle=":", linewidth=1)
    axes[0].set(title="F of the triggers in training", xlabel=unit, ylim=(0, 1))
    axes[0].legend(frameon=False)
    axes[1].set(title=f"{spread.replace('_', ' ')} in training (nats)", xlabel=unit)
    axes[2].set(title="F of fresh samples (dotted: valid from here)", xlabel="F")
    axes[2].legend(frameon=False, loc="upper left")
    _save(figure, path)


def draw_methods(defenses: Sequence[DefenseRow], before: Rates, path: Path) -> None:
    """Attack success rate per method: a bar at the mean, a dot per seed, a triangle for the strongest trigger left."""
    methods = list(dict.fromkeys(row.method for row in defenses))
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(methods) + 1.4))
    for line, method in enumerate(methods):
        rates = [100 * row.attack_success_rate for row in defenses if row.method == method]
        single = method in ("single_trigger", ELSEWHERE)
        colour = SINGLE_COLOUR if single else TRUE_COLOUR if method == "ideal" else "#4878a8"
        axes.barh(line, sum(rates) / len(rates), color=colour, alpha=0.55)
        axes.plot(rates, [line] * len(rates), "o", color="black", markersize=4)
        left = [100 * row.strongest_left for row in defenses if row.method == method and row.strongest_left is not None]
        axes.plot(left, [line + LOWER] * len(left), "^", color="black", markerfacecolor="white", markersize=6)
    axes.axvline(100 * before.attack_success_rate, color="grey", linestyle=":", label="before")
    axes.set(yticks=range(len(methods)), yticklabels=methods, xlabel="attack success rate after defence (%)")
    axes.set_xlim(0, 105)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def draw_sweep(triggers: Sequence[TriggerRow], path: Path) -> None:
    """Attack success rate per trigger, in their order: all methods, and closer the defences."""
    names = [short_name(row.name) for row in triggers]
    figure, (whole, close) = plt.subplots(
        2, 1, figsize=(max(8.0, 0.32 * len(names) + 3), 7.5), sharex=True, height_ratios=(1, 2)
    )
    methods = sweep_methods(triggers)
    for method in methods:
        values = [100 * row.success(method) for row in triggers]
        style = _method_style(method, methods)
        whole.plot(range(len(names)), values, marker=".", **style)
        if method not in UNDEFENDED:
            spread = [100 * std.attack_success_rate for row in triggers if (std := row.rates[method].std)]
            close.errorbar(range(len(names)), values, yerr=spread, marker="o", markersize=4, capsize=2, **style)
    whole.set(ylim=(-3, 103), ylabel="attack success (%)")
    whole.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    close.set(ylabel="attack success after defence (%)", xticks=range(len(names)))
    close.set_xticklabels(names, rotation=90, fontsize=8)
    close.set_ylim(bottom=0)
    close.grid(axis="y", alpha=0.3)
    _save(figure, path)


def draw_panels(panels: Sequence[tuple[TriggerRow, Embedding]], betas: Sequence[float], path: Path) -> None:
    """Per trigger, as on the paper's poster: the original and the strongest reversed one, and the t-SNE of all."""
    figure = plt.figure(figsize=(4.6 * len(panels), 3.8))
    grid = figure.add_gridspec(2, 3 * len(panels), wspace=0.15, hspace=0.5)
    for index, (row, embedding) in enumerate(panels):
        successes = row.reversed_attack_success_rates
        strongest = successes.index(max(successes))
        shown = (
            ("original", torch.tensor(row.pixels), row.success(BEFORE)),
            ("reversed", embedding.reversed[strongest], successes[strongest]),
        )
        for line, (title, trigger, success) in enumerate(shown):
            axes = figure.add_subplot(grid[line, 3 * index])
            axes.imshow(_pixels(trigger), vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{title}\n{100 * success:.1f} %", fontsize=8)
        axes = figure.add_subplot(grid[:, 3 * index + 1 : 3 * index + 3])
        for stair, beta in enumerate(betas):
            own = embedding.positions[embedding.group == stair]
            axes.scatter(own[:, 0], own[:, 1], s=5, alpha=0.6, color=_stair_colour(stair, betas), label=method_of(beta))
        for mark, symbol, colour in ((REVERSED_GROUP, "s", SINGLE_COLOUR), (TRUE_GROUP, "X", TRUE_COLOUR)):
            own = embedding.positions[embedding.group == mark]
            axes.scatter(own[:, 0], own[:, 1], s=45, marker=symbol, color=colour, edgecolor="white", linewidth=0.5)
        axes.set(xticks=[], yticks=[], title=short_name(row.name))
        if index == 0:
            axes.legend(frameon=False, fontsize=7, loc="upper right")
    _save(figure, path)


def draw_grid(found: GridResult, path: Path) -> None:
    """Attack success per method and attack, in per cent, as a heat map; grey where nothing was measured."""
    rows = [[found.row(attack, method) for attack in found.attacks] for method in found.methods]
    shades = [[math.nan if row.asr is None else 100 * row.asr for row in line] for line in rows]
    figure, axes = plt.subplots(figsize=(1.5 * len(found.attacks) + 2, 0.45 * len(found.methods) + 1))
    axes.set_facecolor("#e6eaee")
    picture = axes.imshow(shades, cmap="Reds", vmin=0, vmax=100, aspect="auto")
    for line, shaded in enumerate(shades):
        for column, shade in enumerate(shaded):
            if not math.isnan(shade):
                colour = "white" if shade > DARK else "black"
                axes.text(column, line, f"{shade:.1f}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(found.attacks)), found.attacks)
    axes.set_yticks(range(len(found.methods)), found.methods)
    figure.colorbar(picture, label="attack success (%)")
    _save(figure, path)


def draw_training(
    attacked: TrainingCurves,
    retraining: Mapping[str, Curve],
    path: Path,
) -> None:
    """Curves per epoch: the loss of all phases, the attack while the backdoor is planted, the defences' loss."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    clean, poisoned = attacked.clean, attacked.poisoned or ()
    later = range(len(clean) + 1, len(clean) + len(poisoned) + 1)
    axes[0].plot(range(1, len(clean) + 1), [epoch["loss"] for epoch in clean], label="clean training")
    axes[0].plot(later, [epoch["loss"] for epoch in poisoned], label="poison training")
    axes[0].set(title="loss", xlabel="epoch")
    axes[1].plot(later, [epoch["clean_accuracy"] for epoch in poisoned], label="clean accuracy")
    axes[1].plot(later, [epoch["attack_success_rate"] for epoch in poisoned], label="attack success rate")
    axes[1].set(title="planting the backdoor", xlabel="epoch", ylim=(0, 1.02))
    for method, curve in retraining.items():
        axes[2].plot(range(1, len(curve) + 1), [epoch["loss"] for epoch in curve], label=method)
    axes[2].set(title="loss in retraining (first seed)", xlabel="epoch")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _method_style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    fixed = {
        "before": ("black", "-"),
        "none": ("grey", ":"),
        "fine_tune": ("grey", "--"),
        "single_trigger": (SINGLE_COLOUR, "-"),
        ELSEWHERE: (SINGLE_COLOUR, "--"),
        "ensemble": ("#1f4e8c", "-"),
        "ideal": (TRUE_COLOUR, "-"),
    }
    if method in fixed:
        colour, line = fixed[method]
    else:
        stairs = sorted(name for name in methods if name.startswith("beta="))
        colour, line = _stair_colour(stairs.index(method), stairs), ":"
    return {"color": colour, "linestyle": line, "linewidth": 1.4, "label": method}


def _stair_colour(index: int, betas: Sequence[object]) -> Any:
    return STAIR_COLOURS(0.15 + 0.7 * index / max(1, len(betas) - 1))


def _thumbnail(axes: Axes, trigger: Tensor, position: Tensor, colour: Any, size: int) -> None:
    picture = OffsetImage(_pixels(trigger), zoom=size / max(trigger.shape[-2:]), interpolation="nearest")
    frame = {"edgecolor": colour, "linewidth": 1.5, "boxstyle": "square,pad=0.05"}
    axes.add_artist(AnnotationBbox(picture, tuple(position.tolist()), bboxprops=frame))


def _show(axis: Axes, picture: Tensor) -> None:
    axis.imshow(_pixels(picture), vmin=0, vmax=1, interpolation="nearest")
    axis.axis("off")


def _pixels(picture: Tensor) -> Any:
    return picture.permute(1, 2, 0).clamp(0, 1).numpy()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
