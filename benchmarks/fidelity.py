"""How close do generators come to the truth?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.stairs import mine_stairs, suspect
from untrigger.artifacts import read_json
from untrigger.fidelity import Fidelity, measure_fidelity
from untrigger.flow_training import train_flows
from untrigger.judge import new_judge
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import FlowSettings, TruthSettings
from untrigger.settings.runs import DefenseConfig
from untrigger.triggers import Sampler
from untrigger.truth import find_truth

Row = dict[str, Any]


def measure_runs(run_folders: Sequence[Path], walkers: int, changes: Mapping[str, Any], json_file: Path | None) -> None:
    """Print and write one row per run, family and beta. `changes` are laid over the flow settings."""
    console, rows = Console(), []
    for run_folder in run_folders:
        rows += measure_run(run_folder, TruthSettings(walkers=walkers), FlowSettings.of(changes), console.print)
    console.print(_table(rows))
    console.print(description(device()), soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def measure_run(
    run_folder: Path, truth_settings: TruthSettings, flow_settings: FlowSettings, say: Callable[[str], None]
) -> list[Row]:
    """The rows of one run: flows and MINE generators trained on its classifier, all stairs of a family together."""
    config = DefenseConfig.of(read_json(run_folder / "run.json")["config"])
    classifier, data = suspect(run_folder, config)
    size = (config.trigger_height, config.trigger_width)
    seed, betas = config.seed, sorted(config.betas)
    judge = new_judge(classifier, data.images, config.target_class, size, rng=derived_rng(seed, "judge"))
    truths = find_truth(
        judge,
        judge.dimensions,
        betas,
        truth_settings,
        rngs=[derived_rng(seed, "truth", repeat) for repeat in range(truth_settings.repeats)],
        device=device(),
        folder=run_folder / "truth",
        on_level=lambda repeat, level, volume: say(f"truth, repeat {repeat}: F >= {level:.3f}, {volume:.1f} nats"),
    )

    def flows() -> Sequence[Sampler]:
        return train_flows(judge, betas, flow_settings, rngs=[derived_rng(seed, "flow", beta) for beta in betas])

    def mine() -> Sequence[Sampler]:
        return list(mine_stairs(classifier, data, config, seed).values())

    rows = []
    for family, train in (("flow", flows), ("mine", mine)):
        began = time.perf_counter()
        generators = train()
        seconds = time.perf_counter() - began
        for beta, generator, truth in zip(betas, generators, truths, strict=True):
            rng = derived_rng(seed, "fidelity", beta)
            found = measure_fidelity(generator, beta, judge, truth=truth, rng=rng)
            rows.append(_row(run_folder.name, seed, beta, family, found, seconds))
            say(f"{family}, beta {beta}: {', '.join(_cells(rows[-1]))}")
    return rows


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
