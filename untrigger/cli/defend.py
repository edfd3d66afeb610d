"""The command that closes what opens a model of others. It holds no logic of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from untrigger.cli.messages import debug_option, tell
from untrigger.cli.settings import DefendSettingsCommand, nested_settings, references_option
from untrigger.cli.statuses import status_of
from untrigger.errors import UserError


@click.command(cls=DefendSettingsCommand)
@click.argument("model")
@click.option("--profile", help="Named settings of search and retraining, as `run` has them: demo, cpu, paper or tiny.")
@click.option(
    "--scan", "scanned", type=click.Path(path_type=Path), help="Close what this scan found: its scan.json or --json."
)
@references_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/defend"),
    show_default=True,
    help="Folder for the retrained model and the report.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
def defend(
    model: str,
    profile: str | None,
    scanned: Path | None,
    references: Path | None,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Retrain a MODEL until the search finds nothing that opens it any more, and write it back as it came.

    A MODEL is what `untrigger scan` takes. It is scanned first, unless --scan gives what was found. Of a patch flows
    learn the whole distribution of triggers for that class and size, their samples are stamped on the defender's part
    of --dataset with the true labels kept, and the model is retrained in rounds: what the search still finds after a
    round is stamped as well in the next (--retraining.rounds). Where the scan found a mask, the images are put under it
    instead, and after each round under the next that is found.

    Whatever the scan says, --target-class has that class closed: by its smallest mask, or with --patch-size by patches
    at any place, which needs no scan.

    The retrained model has the names, shapes and types of tensors that the file had, as safetensors; the two lines that
    load it are printed. A model in which nothing is found is left as it is, and nothing is written of it.

    \b
    Status: 0 nothing found, or what was found is closed; 3 still open after the
    last round, or closed at more than 10 points of clean accuracy, or found by the
    scan and not found again; 4 not calibrated, nothing done (no references, or too
    few); 2 an error.

    \b
    Examples:
      untrigger defend model.pth --dataset digits --references runs/references
      untrigger defend model.pth --dataset digits --scan runs/scan/model-1a2b3c4d/scan.json
      untrigger defend model.pth --dataset digits --scan runs/scan/model-1a2b3c4d/scan.json --target-class 8
      untrigger defend attack_result.pt --dataset cifar10:PATH --target-class 0 --patch-size 3 --json
    """
    from rich.console import Console

    from untrigger.profiles import defence_config
    from untrigger.reports.model_tables import defence_table
    from untrigger.runs.defences import Defending, defend_model
    from untrigger.settings.defences import DefendConfig
    from untrigger.tracking.watching import showing_work

    settings = nested_settings(options)
    if scanned is not None and {"target_class", "patch_size"} <= settings.keys():
        raise UserError("with --target-class and --patch-size nothing of --scan counts: leave it out")
    if "dataset" not in settings:
        raise UserError("defend needs --dataset: the data that the model is for")
    config = defence_config(profile, settings, DefendConfig)
    with showing_work(Console(file=sys.stderr)) as on_work:
        result = defend_model(model, Defending(config, output, tell, on_work, references, scanned))
    if as_json:
        click.echo(result.model_dump_json())
    else:
        Console(file=sys.stdout).print(defence_table(result))
        click.echo(result.sentence)
        for line in result.loading():
            click.echo(f"  {line}")
        click.echo(f"report: {(output / result.folder / 'report.html').resolve()}")
    sys.exit(status_of(result))
