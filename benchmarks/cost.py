"""What more stairs, more stamped images, larger batches and larger datasets cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, seconds_for
from benchmarks.speed import SpeedOptions, new_images_and_classifier
from untrigger.generators import train_generators
from untrigger.poisoning import plant_backdoor
from untrigger.retraining import retrain
from untrigger.settings.methods import GeneratorSettings, PoisoningSettings, RetrainingSettings
from untrigger.triggers import always, checkerboard

STAIRS = (1, 3, 8)
STAMPED_SHARES = (0.0, 0.01, 0.2, 1.0)
BATCHES = (32, 128, 512)
IMAGES = (1_000, 4_000, 16_000)

Call = Callable[[], object]


def measure_cost(options: SpeedOptions) -> None:
    """Measure and print the table; every row is compared with the first of its group."""
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(description(device), soft_wrap=True)
    table = Table(
        title=f"{options.architecture}, {options.precision}, batch {options.batch}: median of {options.repeats}"
    )
    for name in ("what varies", "seconds", "images/s", "seconds, relative"):
        table.add_column(name, justify="left" if name == "what varies" else "right")
    groups = (
        [(f"generators: {count} stairs in one task", *_generators(options, count)) for count in STAIRS],
        [(f"retraining: {share:.0%} stamped", *_retraining(options, share)) for share in STAMPED_SHARES],
        [(f"poison training: batch {batch}", *_poisoning(replace(options, batch=batch), 1_024)) for batch in BATCHES],
        [(f"poison training: {count} images", *_poisoning(options, count)) for count in IMAGES],
    )
    for group in groups:
        first = 0.0
        for name, images, call in group:
            call()
            seconds = statistics.median(seconds_for(call, device) for _ in range(options.repeats))
            first = first or seconds
            table.add_row(name, f"{seconds:.2f}", f"{images / seconds:.0f}", f"{seconds / first:.2f}")
        table.add_section()
    console.print(table)


def _generators(options: SpeedOptions, count: int) -> tuple[int, Call]:
    images, labels, classifier = new_images_and_classifier(options)
    betas = [(index + 1) / (count + 1) for index in range(count)]
    settings = GeneratorSettings(epochs=1, batch_size=options.batch)
    rngs = [torch.Generator().manual_seed(index) for index in range(count)]
    return count * len(images), lambda: train_generators(
        classifier, images, labels, 0, (3, 3), settings, betas=betas, rngs=rngs
    )


def _retraining(options: SpeedOptions, share: float) -> tuple[int, Call]:
    images, labels, classifier = new_images_and_classifier(options)
    settings = RetrainingSettings(**_one_epoch(options), stamped_share=share)
    rng, source = torch.Generator().manual_seed(0), always(checkerboard().to(images.device))
    return len(images), lambda: retrain(classifier, images, labels, source, settings, rng=rng)


def _poisoning(options: SpeedOptions, count: int) -> tuple[int, Call]:
    images, labels, classifier = new_images_and_classifier(replace(options, steps=-(-count // options.batch)))
    images, labels = images[:count], labels[:count]
    settings, rng = PoisoningSettings(**_one_epoch(options)), torch.Generator().manual_seed(0)
    return count, lambda: plant_backdoor(classifier, images, labels, checkerboard(), 0, settings, rng=rng)


def _one_epoch(options: SpeedOptions) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": options.batch}
