"""How close do generators come to the truth?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import description
from benchmarks.stairs import mine_stairs, plain_betas, suspect
from untrigger.artifacts import read_json
from untrigger.fidelity import Fidelity, judged_samples, measure_fidelity
from untrigger.flow_training import train_flows
from untrigger.judge import new_judge
from untrigger.networks.devices import device
from untrigger.reports.tsne import TRUE_GROUP, Embedding, embed
from untrigger.seeding import derived_rng
from untrigger.settings.methods import FlowSettings, TruthSettings
from untrigger.settings.runs import DefenseConfig
from untrigger.trigger_parts import find_parts
from untrigger.triggers import Sampler
from untrigger.truth import find_truth

Row = dict[str, Any]

PANEL_DRAWN, PANEL_SHOWN, PANEL_PERPLEXITY = 500, 300, 30.0
SINGLES = 20
"""Groups of up to so many triggers are drawn large."""


def measure_runs(
    run_folders: Sequence[Path],
    truth_settings: TruthSettings,
    changes: Mapping[str, Any],
    json_file: Path | None,
    panel: Path | None = None,
) -> None:
    """Print and write one row per run, family and beta. `changes` are laid over the run's flow settings.

    Into `panel` is drawn how true and generated triggers of the first run lie, at its highest beta.
    """
    console, rows = Console(), []
    for run_folder in run_folders:
        drawn = panel if run_folder == run_folders[0] else None
        rows += measure_run(run_folder, truth_settings, changes, console.print, drawn)
    console.print(_table(rows))
    console.print(description(device()), soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def measure_run(
    run_folder: Path,
    truth_settings: TruthSettings,
    changes: Mapping[str, Any],
    say: Callable[[str], None],
    panel: Path | None = None,
) -> list[Row]:
    """The rows of one run: flows and MINE generators trained on its classifier, all stairs of a family together."""
    config = DefenseConfig.of(read_json(run_folder / "run.json")["config"])
    classifier, data = suspect(run_folder, config)
    size, settings = (config.trigger_height, config.trigger_width), FlowSettings.of({**config.flow.record(), **changes})
    seed, betas = config.seed, plain_betas(config)
    judge = new_judge(classifier, data.images, config.target_class, size, rng=derived_rng(seed, "judge"))
    truths = find_truth(
        judge,
        judge.dimensions,
        betas,
        truth_settings,
        rngs=[derived_rng(seed, "truth", repeat) for repeat in range(truth_settings.repeats)],
        device=device(),
        folder=run_folder / "fidelity",
        on_level=lambda repeat, level, volume: say(f"truth, repeat {repeat}: F >= {level:.3f}, {volume:.1f} nats"),
    )

    if left_out := betas[len(truths) :]:
        say(f"out of reach, left out: {', '.join(map(str, left_out))}")
    betas = betas[: len(truths)]

    def flows() -> Sequence[Sampler]:
        parts = find_parts(judge, rng=derived_rng(seed, "parts"))
        rngs = [derived_rng(seed, "flow", beta) for beta in betas]
        return train_flows(judge, betas, settings, rngs=rngs, parts=parts)

    def mine() -> Sequence[Sampler]:
        found = mine_stairs(classifier, data, config, seed)
        return [found[beta] for beta in betas]

    rows, shown = [], {"truth": truths[-1].samples.view(-1, 3, *size)}
    for family, train in (("flow", flows), ("mine", mine)):
        began = time.perf_counter()
        generators = train()
        seconds = time.perf_counter() - began
        for beta, generator, truth in zip(betas, generators, truths, strict=True):
            rng = derived_rng(seed, "fidelity", beta)
            found = measure_fidelity(generator, beta, judge, truth=truth, rng=rng)
            rows.append(_row(run_folder.name, seed, beta, family, found, seconds))
            say(f"{family}, beta {beta}: {', '.join(_cells(rows[-1]))}")
        shown[family] = (
            judged_samples(generators[-1], judge, PANEL_DRAWN, derived_rng(seed, "panel")).valid(betas[-1]).triggers
        )
    if panel is not None:
        _draw_panel(run_folder, shown, betas[-1], panel)
    return rows


def _draw_panel(run_folder: Path, found: Mapping[str, Tensor], beta: float, path: Path) -> None:
    """t-SNE of the run's reversed triggers and its true one among those `found`, by their names."""
    embedded = Embedding.load(run_folder)
    true = embedded.triggers[embedded.group == TRUE_GROUP]
    parts = {name: triggers[:PANEL_SHOWN].cpu() for name, triggers in found.items()}
    parts |= {"single reversed triggers": embedded.reversed, "true trigger": true}
    places = embed(torch.cat(list(parts.values())), PANEL_PERPLEXITY, seed=0)
    figure, axes = plt.subplots(figsize=(8, 6))
    for (name, triggers), places_of in zip(
        parts.items(), places.split([len(part) for part in parts.values()]), strict=True
    ):
        size = 8 if len(triggers) > SINGLES else 60
        axes.scatter(places_of[:, 0], places_of[:, 1], s=size, alpha=0.7, label=name, marker="o" if size == 8 else "s")
    axes.set(xticks=[], yticks=[], title=f"triggers with F >= {beta}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _row(run: str, seed: int, beta: float, family: str, found: Fidelity, seconds: float) -> Row:
    return {
        "run": run,
        "seed": seed,
        "beta": beta,
        "family": family,
        "valid": found.valid,
        "mean_f": found.mean_f,
        "entropy": found.entropy,
        "gap": found.gap,
        "forward_gap": found.forward_gap,
        "coverage": found.coverage,
        "truth_coverage": found.truth_coverage,
        "precision": found.precision,
        "search_seconds": seconds,
    }


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="entropy and gaps in nats; the seconds are those of all stairs of a family together")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    forms = {"valid": "{:.3f}", "mean_f": "{:.3f}", "search_seconds": "{:.0f}"}
    return [
        "" if value is None else forms.get(name, "{:.2f}").format(value) if isinstance(value, float) else f"{value}"
        for name, value in row.items()
    ]
