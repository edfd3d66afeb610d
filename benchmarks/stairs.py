"""Do the generators fill their stairs, whatever their seed?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from untrigger.artifacts import read_json
from untrigger.classifiers import load_classifier
from untrigger.datasets import load_images
from untrigger.errors import UserError
from untrigger.generators import train_generator
from untrigger.profiles import laid_over
from untrigger.seeding import derived_generator
from untrigger.settings import DefenseConfig
from untrigger.stage import device, kept_outputs
from untrigger.staircase import StairMeasurement, measure_stair


def measure_stairs(run_folder: Path, seeds: Sequence[int], changes: Mapping[str, Any]) -> None:
    """Train every stair of the run in `run_folder` once per seed on its classifier, and print what fills them.

    `changes` are laid over the run's generator settings.
    """
    values = read_json(run_folder / "run.json")["config"]
    config = DefenseConfig.of(laid_over(values, {"generator": changes}))
    console = Console()
    table = Table(
        title=f"{config.dataset}, {config.generator.constraint}: {config.generator.fresh_samples} fresh samples, "
        f"{len(seeds)} generator seeds"
    )
    for name in ("beta", "mean F", "valid samples %", "mutual information (nats)"):
        table.add_column(name, justify="right")
    for beta in sorted(config.betas):
        measured = []
        for seed in seeds:
            measured.append(_measure(run_folder, config, beta, seed))
            console.print(f"beta {beta}, seed {seed}: {', '.join(_cells([measured[-1]]))}")
        table.add_row(f"{beta}", *_cells(measured))
    console.print(table)


def _measure(run_folder: Path, config: DefenseConfig, beta: float, seed: int) -> StairMeasurement:
    prepared, poisoned = (_outputs(run_folder, stage) for stage in ("prepare_data", "poison_training"))
    classifier = load_classifier(poisoned / "backdoored_classifier", device())
    data = load_images(prepared / "defender_data").to(device())
    size = (config.trigger_height, config.trigger_width)
    triggers = train_generator(
        classifier,
        data.images,
        data.labels,
        beta,
        config.target_class,
        size,
        config.generator,
        generator=derived_generator(seed, "generator", beta),
    )
    return measure_stair(
        triggers,
        beta,
        classifier,
        data.images,
        data.labels,
        config.target_class,
        generator=derived_generator(seed, "stair", beta),
    )


def _outputs(run_folder: Path, stage: str) -> Path:
    kept = kept_outputs(run_folder / "stages", stage)
    if kept is None:
        raise UserError(f"{run_folder} holds no finished stage {stage}: run the pipeline there first")
    return kept


def _cells(measured: Sequence[StairMeasurement]) -> list[str]:
    columns = (
        ("{:.3f}", [m.strengths.mean().item() for m in measured]),
        ("{:.1f}", [100 * m.valid_share for m in measured]),
        ("{:.2f}", [m.mutual_information for m in measured]),
    )
    cells = []
    for form, values in columns:
        spread = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
        cells.append(form.format(statistics.fmean(values)) + spread)
    return cells
