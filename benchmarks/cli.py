"""The benchmark commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from untrigger.cli import Commands

MEASUREMENT_OPTIONS = (
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
    click.option(
        "--classifier",
        "architecture",
        type=click.Choice(["resnet18", "small_resnet"]),
        default="resnet18",
        show_default=True,
        help="The classifier.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "bf16", "fp32"]),
        default="auto",
        show_default=True,
        help="Arithmetic of ours; the reference is fp32.",
    ),
    click.option("--batch", default=128, show_default=True, help="Images per step."),
    click.option("--steps", default=2, show_default=True, help="Steps per measurement."),
    click.option("--repeats", default=3, show_default=True, help="Measurements per side, after one to warm up."),
    click.option("--images", default=0, help="Images held in memory, of which a measurement uses the first."),
    click.option("--threads", default=0, help="CPU threads of each side (all cores when not given)."),
    click.option("--workers", default=8, show_default=True, help="DataLoader workers of the reference."),
)


def measurement_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `SpeedOptions`, all but the stages."""
    for option in reversed(MEASUREMENT_OPTIONS):
        command = option(command)
    return command


@click.group(cls=Commands)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Repeat a measurement and print a table."""


@main.command()
@click.argument("run_folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Generator seeds per stair.")
@click.option("--first-seed", default=100, show_default=True, help="The first of them; a run itself uses its own.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a generator setting; may be given several times.",
)
def stairs(run_folder: Path, seeds: int, first_seed: int, changes: tuple[str, ...]) -> None:
    """Does each generator fill its stair, and how long does that take?

    Trains the stairs of a finished run anew with other seeds. `--set constraint=fixed_alpha` trains as the paper does.
    """
    from benchmarks.stairs import measure_stairs

    pairs = (change.partition("=") for change in changes)
    measure_stairs(run_folder, range(first_seed, first_seed + seeds), {name: value for name, _, value in pairs})


@main.command()
@click.option("--stage", "stages", multiple=True, help="Measure this stage only; may be given several times.")
@measurement_options
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows to this file.")
def speed(json_file: Path | None, stages: tuple[str, ...], **options: Any) -> None:
    """Images per second of every stage, ours against the loops as the authors wrote them."""
    from benchmarks.speed import STAGES, SpeedOptions, measure_speed

    unknown = set(stages) - set(STAGES)
    if unknown:
        raise click.BadParameter(f"unknown stage {', '.join(unknown)}: choose from {', '.join(STAGES)}")
    measure_speed(SpeedOptions(stages=stages or STAGES, **options), json_file)


@main.command()
@measurement_options
def cost(**options: Any) -> None:
    """What more stairs, stamped images, larger batches and larger datasets cost."""
    from benchmarks.cost import measure_cost
    from benchmarks.speed import SpeedOptions

    measure_cost(SpeedOptions(**options))


@main.command()
@click.option("--profile", default="tiny", show_default=True, help="What is run: tiny does next to nothing; or demo.")
def overhead(profile: str) -> None:
    """The wall time of a pipeline run outside the stages' own work, item by item, and its share of the whole."""
    from benchmarks.overhead import measure_overhead

    measure_overhead(profile)


@main.command()
@click.option("--seeds", default=3, show_default=True, help="Seeds per path.")
def agreement(seeds: int) -> None:
    """Do bf16 and fp32, and stairs trained together and apart, give the same classifiers?"""
    from benchmarks.agreement import measure_agreement

    measure_agreement(seeds)


@main.command()
@click.option("--seed", default=0, show_default=True, help="Seed of all walks.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows to this file.")
def known_volumes(seed: int, json_file: Path | None) -> None:
    """Does the sampler of the truth find the volumes of a box, a ball, and two far-apart balls?"""
    from benchmarks.known_volumes import measure_known_volumes

    measure_known_volumes(seed, json_file)


@main.command()
@click.argument("run_folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--walkers", default=256, show_default=True, help="Walkers of each repeat that finds the truth.")
@click.option("--repeats", default=4, show_default=True, help="Repeats that find the truth.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a flow setting; may be given several times."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows to this file.")
@click.option("--panel", type=click.Path(path_type=Path), help="Draw the first run's triggers into this picture.")
def fidelity(
    run_folders: tuple[Path, ...],
    walkers: int,
    repeats: int,
    changes: tuple[str, ...],
    json_file: Path | None,
    panel: Path | None,
) -> None:
    """How close do generators come to the truth about {F >= beta}?

    Trains flows and MINE generators, one after the other, on the classifier of each finished run. What is found of the
    truth is kept in the run's folder `fidelity`, where an interrupted search goes on.
    """
    from benchmarks.fidelity import measure_runs
    from untrigger.settings.methods import TruthSettings

    pairs = (change.partition("=") for change in changes)
    truth = TruthSettings.of({"walkers": walkers, "repeats": repeats})
    measure_runs(run_folders, truth, {name: value for name, _, value in pairs}, json_file, panel)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--profile", default="demo", show_default=True, help="The data, the classifier, and its poisoning.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of an attack; may be given often.",
)
def attacks(names: tuple[str, ...], profile: str, changes: tuple[str, ...]) -> None:
    """Success of the attacks called NAMES, all built-in ones when none are given, and what accuracy they cost."""
    from benchmarks.attacks import measure_attacks
    from untrigger.settings.attacks import ATTACKS

    pairs = (change.partition("=") for change in changes)
    measure_attacks(profile, names or ATTACKS, {name: value for name, _, value in pairs})


@main.command()
@click.argument("dataset", type=click.Choice(["digits", "cifar10"]))
@click.option("--data", "address", metavar="NAME", help="Where the images are, as `run --dataset` takes them.")
@click.option(
    "--references", type=click.IntRange(min=1), help="Clean networks to compare with.  [default: 99; cifar10: 19]"
)
@click.option("--clean", type=int, help="Clean networks to judge.  [default: 40; cifar10: 20]")
@click.option("--backdoored", type=int, help="Backdoored networks to judge.  [default: 40; cifar10: 20]")
@click.option("--others", type=int, help="Networks of each kind that is reported apart.  [default: 5]")
@click.option("--budget", default="standard", show_default=True, help="Of each scan, as `scan --budget` takes it.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="What is kept of each network.  [default: runs/zoo-...]"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def zoo(
    dataset: str,
    address: str | None,
    references: int | None,
    clean: int | None,
    backdoored: int | None,
    others: int | None,
    budget: str,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Does a scan tell backdoored networks from clean ones?

    Trains the networks of a zoo from seeds and scans each. Attacks are drawn: size 1 to 8, shape, colour, place,
    target, share of poison. What is done stays in the folder, a line per network, and is not done again.
    """
    from benchmarks.zoo import measure_zoo

    counts = {"reference": references, "clean": clean, "backdoored": backdoored}
    counts |= dict.fromkeys(("blended", "one_to_one", "label_noise", "natural_patch"), others)
    measure_zoo(dataset, address, counts, folder or Path("runs") / f"zoo-{dataset}", budget, json_file)


@main.command()
@click.argument("dataset", type=click.Choice(["digits", "cifar10"]))
@click.option("--data", "address", metavar="NAME", help="Where the images are, as `run --dataset` takes them.")
@click.option("--references", type=click.IntRange(min=1), default=19, show_default=True, help="To compare with.")
@click.option(
    "--backdoored", type=click.IntRange(min=0), default=5, show_default=True, help="Backdoored networks to defend."
)
@click.option("--clean", type=click.IntRange(min=0), default=5, show_default=True, help="Clean networks to defend.")
@click.option("--folder", type=click.Path(path_type=Path), help="That of a measured zoo.  [default: runs/zoo-...]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write what is left to this file.")
def closing(
    dataset: str,
    address: str | None,
    references: int,
    backdoored: int,
    clean: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Does a defence close the first networks of a zoo, and leave clean ones alone?

    Each is scanned against some of the zoo's references, and what is found is closed. What is done stays in the zoo's
    folder, and is not done again.
    """
    from benchmarks.closing import measure_closing

    counts = {"references": references, "backdoored": backdoored, "clean": clean}
    measure_closing(dataset, address, folder or Path("runs") / f"zoo-{dataset}", counts, json_file)
