"""The command that sets attacks against defences. It holds no logic of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from untrigger.cli.messages import EXIT_UNTRACKED, debug_option, tell
from untrigger.cli.settings import GridSettingsCommand, nested_settings
from untrigger.errors import UserError


@click.command(cls=GridSettingsCommand)
@click.option("--profile", default="demo", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Output folder.  [default: runs/grid-PROFILE]"
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here as well."
)
@click.option(
    "--allow-untracked", is_flag=True, help="End with status 0, not 5, when MLflow did not take every record."
)
@debug_option
def grid(profile: str, output: Path | None, json_file: Path | None, allow_untracked: bool, **options: Any) -> None:
    """Set every attack against every method of defence, ours and those of others, on the same data and seeds.

    A seed is a whole run: one clean classifier is backdoored, each method searches for what it needs and retrains once.
    Attack success, accuracies, DER and cost stand in one table per measure, with paired differences between the
    ensemble and each other method; a report with a heat map, CSV and LaTeX tables lie in the output folder.

    A backdoor that does not reach 90 % success at 3 points of clean accuracy at most is marked "not planted" and left
    out. The same command goes on where it was interrupted; more attacks, methods or seeds add to what is there.

    \b
    Examples:
      untrigger grid --seeds 1 --methods fine_tune,ensemble,ft_sam
      untrigger grid --profile cpu --dataset parquet:data/cifar10 --output runs/cifar-grid --json grid.json
    """
    from rich.console import Console

    from untrigger.profiles import grid_config
    from untrigger.reports.grid_tables import grid_tables
    from untrigger.reports.grids import GridResult
    from untrigger.runs.grids import run_grid
    from untrigger.settings.grids import GridConfig

    config = grid_config(profile, nested_settings(options), GridConfig)
    output = output or Path("runs") / f"grid-{profile}"
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UserError(f"--json: there is no folder {json_file.absolute().parent}")
    found, untracked = run_grid(config, output, say=tell)
    console = Console(file=sys.stdout)
    for table in grid_tables(found):
        console.print(table)
    if json_file is not None:
        shutil.copyfile(output / GridResult.FILE, json_file)
    click.echo(f"report:  {output.resolve() / 'report.html'}")
    click.echo(f"tables:  {output.resolve() / 'grid.csv'}, grid.tex")
    if untracked:
        tell(f"warning: {untracked}")
        if not allow_untracked:
            sys.exit(EXIT_UNTRACKED)
