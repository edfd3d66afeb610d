"""The commands that ask more of a finished run's distribution of triggers. They hold no logic of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from untrigger.cli.messages import debug_option, tell


@click.command()
@debug_option
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--walkers", default=256, show_default=True, help="Walkers of each repeat.")
@click.option("--repeats", default=4, show_default=True, help="Independent repeats; their spread gives the error.")
def truth(run: Path, walkers: int, repeats: int) -> None:
    """Measure the generators of the finished RUN against the truth.

    RUN is an output folder, what `untrigger fetch` or `store get` brought of one, or triggers/NAME in that of a sweep.

    The truth is the volume of {F >= beta}, whose logarithm is the largest entropy there is, and samples of it, found by
    multilevel splitting. Writes truth.json and truth.safetensors into RUN and draws its report anew. What was
    interrupted goes on when it is given again; a search by other options wants RUN/truth removed first.
    """
    from rich.console import Console

    from untrigger.reports.tables import truth_table
    from untrigger.runs.finished import FinishedRun
    from untrigger.runs.truths import add_truth
    from untrigger.settings.methods import TruthSettings

    finished = FinishedRun.of(run)
    known = add_truth(finished, TruthSettings.of({"walkers": walkers, "repeats": repeats}), tell)
    Console(file=sys.stdout).print(truth_table(known))
    click.echo(f"report: {finished.folder.path / 'report.html'}")


@click.command()
@debug_option
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--beta", required=True, metavar="BETA", help="The stair: its beta, or top.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Triggers.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other triggers.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="A folder for the triggers."
)
def sample(run: Path, beta: str, count: int, seed: int, output: Path) -> None:
    """Write fresh triggers of one stair of the finished RUN: as one safetensors file, and as a sheet of pictures.

    RUN is as `untrigger truth` takes it. Only valid triggers, F >= beta by the run's judge, are kept; those of flows
    come with their log-densities.

    \b
    Example:
      untrigger sample runs/demo --beta 0.9 --count 1000 --output triggers
    """
    from untrigger.runs.finished import FinishedRun
    from untrigger.runs.samples import write_samples
    from untrigger.settings.stairs import beta_given

    found = write_samples(FinishedRun.of(run), beta_given(beta), count, seed, output)
    click.echo(f"{count} triggers with F >= {beta}; {100 * found.share:.1f} % of all samples are")
    click.echo(f"triggers: {(output / 'triggers.safetensors').resolve()}")
