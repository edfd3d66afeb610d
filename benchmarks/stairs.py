"""Do the generators fill their stairs, whatever their seed?"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, median_and_range
from untrigger.artifacts import read_json
from untrigger.classifiers import Classifier, load_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.errors import UserError
from untrigger.generators import TriggerGenerator, train_generators
from untrigger.networks.devices import device
from untrigger.profiles import laid_over
from untrigger.seeding import derived_rng
from untrigger.settings.runs import DefenseConfig
from untrigger.settings.stairs import TOP
from untrigger.stages.reuse import kept_outputs
from untrigger.staircase import StairMeasurement, measure_stair


def measure_stairs(run_folder: Path, seeds: Sequence[int], changes: Mapping[str, Any]) -> None:
    """Train every stair of the run in `run_folder` once per seed on its classifier, and print what fills them.

    `changes` are laid over the run's generator settings. All stairs of a seed train together, as in one task.
    """
    values = read_json(run_folder / "run.json")["config"]
    config = DefenseConfig.of(laid_over(values, {"generator": changes}))
    console = Console()
    classifier, data = suspect(run_folder, config)
    table = Table(
        title=f"{config.dataset}, {config.generator.constraint}: {config.generator.fresh_samples} fresh samples, "
        f"{len(seeds)} generator seeds"
    )
    for name in ("beta", "mean F", "valid samples %", "mutual information (nats)"):
        table.add_column(name, justify="right")
    measured: dict[float, list[StairMeasurement]] = {beta: [] for beta in plain_betas(config)}
    seconds = []
    for seed in seeds:
        began = time.perf_counter()
        trained = mine_stairs(classifier, data, config, seed)
        seconds.append(time.perf_counter() - began)
        for beta, triggers in trained.items():
            measured[beta].append(_measured(classifier, data, config, beta, triggers, seed))
            console.print(f"seed {seed}, beta {beta}: {', '.join(_cells(measured[beta][-1:]))}")
    for beta, measurements in measured.items():
        table.add_row(f"{beta}", *_cells(measurements))
    console.print(table)
    steps = len(data) // config.generator.batch_size * config.generator.epochs
    console.print(
        f"training all {len(measured)} stairs: {median_and_range(seconds, '{:.0f}')} seconds, "
        f"{steps} steps, {steps * config.generator.batch_size:,} images per stair"
    )
    console.print(description(device()), soft_wrap=True)


def suspect(run_folder: Path, config: DefenseConfig) -> tuple[Classifier, ImageData]:
    """The backdoored classifier of a finished run, and the defender's images that are searched with."""
    prepared, poisoned = (_outputs(run_folder, stage) for stage in ("prepare_data", "poison_training"))
    classifier = load_classifier(poisoned / "backdoored_classifier", device())
    data = load_images(prepared / "defender_data").to(device())
    return classifier, data.for_search(config.target_class, config.search_images)


def plain_betas(config: DefenseConfig) -> list[float]:
    """The stairs of the run that every family of generators can learn: all but the top one."""
    return [beta for beta in sorted(config.betas) if beta != TOP]


def mine_stairs(
    classifier: Classifier, data: ImageData, config: DefenseConfig, seed: int
) -> dict[float, TriggerGenerator]:
    """The run's MINE generators, trained anew: one per beta."""
    betas = plain_betas(config)
    trained = train_generators(
        classifier,
        data.images,
        data.labels,
        config.target_class,
        (config.trigger_height, config.trigger_width),
        config.generator,
        betas=betas,
        rngs=[derived_rng(seed, "generator", beta) for beta in betas],
    )
    return dict(zip(betas, trained, strict=True))


def _measured(
    classifier: Classifier, data: ImageData, config: DefenseConfig, beta: float, triggers: TriggerGenerator, seed: int
) -> StairMeasurement:
    return measure_stair(
        triggers,
        beta,
        classifier,
        data.images,
        data.labels,
        config.target_class,
        settings=config.generator,
        rng=derived_rng(seed, "stair", beta),
    )


def _outputs(run_folder: Path, stage: str) -> Path:
    kept = kept_outputs(run_folder / "stages", stage)
    if kept is None:
        raise UserError(f"{run_folder} holds no finished stage {stage}: run the pipeline there first")
    return kept


def _cells(measured: Sequence[StairMeasurement]) -> list[str]:
    columns = (
        ("{:.3f}", [m.fresh_F for m in measured]),
        ("{:.1f}", [100 * m.fresh_valid_share for m in measured]),
        ("{:.2f}", [m.fresh_mutual_information or math.nan for m in measured]),
    )
    cells = []
    for form, values in columns:
        spread = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
        cells.append(form.format(statistics.fmean(values)) + spread)
    return cells
