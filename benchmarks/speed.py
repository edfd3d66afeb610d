"""Images per second of every stage: ours against the loops as the authors wrote them, in one run, alternating."""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import (
    copy_rate,
    description,
    matrix_product_rate,
    median_and_range,
    peak_memory,
    seconds_for,
)
from untrigger.classifiers import Classifier, frozen, new_classifier
from untrigger.generators import train_generators
from untrigger.metrics import predict_stamped
from untrigger.pixel_sgd import reverse_triggers
from untrigger.poisoning import plant_backdoor
from untrigger.retraining import retrain
from untrigger.settings.methods import (
    ClassifierSettings,
    CleanTrainingSettings,
    GeneratorSettings,
    PixelSgdSettings,
    PoisoningSettings,
    RetrainingSettings,
)
from untrigger.training import train
from untrigger.triggers import always, checkerboard

STAGES = ("clean training", "poison training", "retraining", "generator", "pixel SGD", "evaluation")
CLASSES = 10


@dataclass(frozen=True)
class SpeedOptions:
    """What is measured, and on what."""

    stages: tuple[str, ...] = STAGES
    device: str = "cpu"
    architecture: str = "resnet18"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    batch: int = 128
    steps: int = 2
    repeats: int = 3
    images: int = 0
    threads: int = 0
    workers: int = 8


@dataclass(frozen=True)
class Measured:
    """One side of one stage."""

    rates: list[float]
    peak_memory: int
    operations_per_image: float = 0.0


def measure_speed(options: SpeedOptions, json_file: Path | None) -> None:
    """Measure all stages, print the tables, and write the rows to `json_file` if one is given."""
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(description(device), soft_wrap=True)
    precision = new_images_and_classifier(options)[2].normalise(checkerboard()[None].to(device)).dtype
    name = {torch.bfloat16: "bf16", torch.float32: "fp32"}[precision]
    peak, copied = matrix_product_rate(device, precision), copy_rate(device)
    results = {}
    for stage in options.stages:
        results[stage] = _alternating(options, stage)
        console.print(f"{stage}: measured")
    console.print(_rates_table(options, results, name))
    console.print(_shares_table(results, name, peak, copied))
    if json_file is not None:
        rows = [_row(options, stage, name, *sides) for stage, sides in results.items()]
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def new_images_and_classifier(options: SpeedOptions) -> tuple[Tensor, Tensor, Classifier]:
    """Random images of CIFAR's size, enough for one measurement, and an untrained classifier for them.

    The images are the first of `options.images`, which stay in memory with them.
    """
    device, rng = torch.device(options.device), torch.Generator().manual_seed(0)
    count = options.batch * options.steps
    held = torch.empty(max(count, options.images), 3, 32, 32, dtype=torch.uint8)
    images = held.random_(0, 256, generator=rng).to(device)[:count]
    labels = torch.randint(1, CLASSES, (count,), generator=rng).to(device)
    settings = ClassifierSettings(architecture=options.architecture, precision=options.precision)
    return images, labels, new_classifier(settings, CLASSES, images, rng)


def our_stage(options: SpeedOptions, stage: str) -> Callable[[], int]:
    """The library's own call for `stage` on all images, once; returns how many."""
    images, labels, classifier = new_images_and_classifier(options)
    rng = torch.Generator().manual_seed(1)
    training: dict[str, Any] = {"epochs": 1, "batch_size": options.batch}
    trigger = checkerboard().to(images.device)
    search = GeneratorSettings(**training)
    sgd = PixelSgdSettings(restarts=1, steps=options.steps, batch_size=options.batch)
    fixed = frozen(classifier, images)
    calls: dict[str, Callable[[], object]] = {
        "clean training": lambda: train(
            classifier, images, labels, CleanTrainingSettings(**training, augment=False), rng=rng
        ),
        "poison training": lambda: plant_backdoor(
            classifier, images, labels, trigger, 0, PoisoningSettings(**training), rng=rng
        ),
        "retraining": lambda: retrain(
            classifier, images, labels, always(trigger), RetrainingSettings(**training), rng=rng
        ),
        "generator": lambda: train_generators(classifier, images, labels, 0, (3, 3), search, betas=[0.8], rngs=[rng]),
        "pixel SGD": lambda: reverse_triggers(classifier, images, 0, (3, 3), sgd, rng=rng),
        "evaluation": lambda: [
            predict_stamped(fixed, part, trigger[None], rng) for part in images.split(options.batch)
        ],
    }

    def call() -> int:
        calls[stage]()
        return len(images)

    return call


def _reference_stage(options: SpeedOptions, stage: str) -> Callable[[], int]:
    from benchmarks.reference import ReferenceLoops

    images, labels, classifier = new_images_and_classifier(options)
    step = ReferenceLoops(classifier, images, labels, options.batch, options.workers).step_of(stage)
    return lambda: sum(step() for _ in range(options.steps))


def _alternating(options: SpeedOptions, stage: str) -> tuple[Measured, Measured]:
    """Ours and the reference in turn, each in a process of its own, the other one waiting."""
    with _Side(options, stage, ours=True) as ours, _Side(options, stage, ours=False) as reference:
        pairs = [(ours.ask("rate"), reference.ask("rate")) for _ in range(options.repeats + 1)][1:]
        our_rates, reference_rates = (list(rates) for rates in zip(*pairs, strict=True))
        return (
            Measured(our_rates, ours.ask("peak memory"), ours.ask("operations")),
            Measured(reference_rates, reference.ask("peak memory")),
        )


class _Side:
    """A process that measures one side of a stage when asked."""

    def __init__(self, options: SpeedOptions, stage: str, ours: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, options, stage, ours))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join()

    def ask(self, question: str) -> Any:
        """The answer; RuntimeError when the process has died, having said why."""
        try:
            self._connection.send(question)
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeError("a measuring process has failed, see above") from error


def _serve(connection: Connection, options: SpeedOptions, stage: str, ours: bool) -> None:
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    call = our_stage(options, stage) if ours else _reference_stage(options, stage)
    count = options.batch * options.steps
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        if question == "rate":
            connection.send(count / seconds_for(call, device))
        elif question == "peak memory":
            connection.send(peak_memory(device))
        else:
            with FlopCounterMode(display=False) as counter:
                call()
            connection.send(counter.get_total_flops() / count)


def _ratio(ours: Measured, reference: Measured) -> float:
    return statistics.median(a / b for a, b in zip(ours.rates, reference.rates, strict=True))


def _rates_table(options: SpeedOptions, results: dict[str, tuple[Measured, Measured]], precision: str) -> Table:
    table = Table(
        title=f"{options.architecture}, batch {options.batch}, ours in {precision}: images per second, "
        f"median (smallest to largest) of {options.repeats}"
    )
    table.add_column("stage")
    for name in ("ours", "reference", "ratio", "ours, MB", "reference, MB"):
        table.add_column(name, justify="right")
    for stage, (ours, reference) in results.items():
        rates = (median_and_range(side.rates, "{:.0f}") for side in (ours, reference))
        memory = (f"{side.peak_memory / 1e6:.0f}" for side in (ours, reference))
        table.add_row(stage, *rates, f"{_ratio(ours, reference):.2f}", *memory)
    return table


def _shares_table(results: dict[str, tuple[Measured, Measured]], precision: str, peak: float, copied: float) -> Table:
    table = Table(
        title=f"share of the measured {precision} matrix product ({peak / 1e9:.0f} GFLOP/s; "
        f"copy {copied / 1e9:.1f} GB/s)"
    )
    table.add_column("stage")
    for name in ("MFLOP per image", "GFLOP/s", "share %"):
        table.add_column(name, justify="right")
    for stage, (ours, _) in results.items():
        rate = ours.operations_per_image * statistics.median(ours.rates)
        table.add_row(stage, f"{ours.operations_per_image / 1e6:.0f}", f"{rate / 1e9:.0f}", f"{100 * rate / peak:.0f}")
    return table


def _row(options: SpeedOptions, stage: str, precision: str, ours: Measured, reference: Measured) -> dict[str, Any]:
    return {
        "stage": stage,
        "device": options.device,
        "batch": options.batch,
        "precision": precision,
        "ours_images_per_second": statistics.median(ours.rates),
        "reference_images_per_second": statistics.median(reference.rates),
        "ratio": _ratio(ours, reference),
    }
