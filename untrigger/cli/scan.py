"""The commands that judge models of others. They hold no logic of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from untrigger.cli.messages import debug_option, tell
from untrigger.cli.settings import ReferencesSettingsCommand, ScanSettingsCommand, nested_settings, references_option
from untrigger.cli.statuses import status_of
from untrigger.errors import UserError


@click.command(cls=ScanSettingsCommand)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@references_option
@click.option("--budget", metavar="NAME|NUMBER", help="Effort: quick, standard, thorough, or so many times the steps.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/scan"),
    show_default=True,
    help="Folder for the report and for what was found in each model.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model, a line each.")
@debug_option
def scan(
    models: tuple[str, ...], references: Path | None, budget: str | None, output: Path, as_json: bool, **options: Any
) -> None:
    """Search MODELs for backdoors, and say how often a clean model would look as suspicious.

    A MODEL is a model file made elsewhere (.pt, .pth, .bin, .ckpt, .safetensors, .pt2, .onnx), the folder `classifier`
    of a run, a folder of such, an address in a store, or one in MLflow (models:/NAME/VERSION, runs:/RUN-ID/PATH). For
    every class the search looks for the strongest patch of each size at any place, and for the smallest mask on the
    whole image; what it finds is measured on images that it did not see.

    The verdict is the model's rank among clean --references of its architecture and data. It is "backdoor found" or
    "nothing found by this search", never "clean". Without references there is a ranking of the classes only.

    \b
    Status: 0 nothing found, 3 backdoor found, 4 not calibrated (no references, or too few), 2 an error. Of several
    models the gravest of 3, 2, 4 and 0: one that cannot be scanned keeps no other from its verdict.

    \b
    Examples:
      untrigger references --profile demo --output runs/references
      untrigger scan model.pth --dataset digits --references runs/references
      untrigger scan downloads/ --dataset parquet:PATH --budget quick --json
    """
    from rich.console import Console

    from untrigger.reports.model_tables import classes_table, verdicts_table
    from untrigger.runs.scans import scan_models
    from untrigger.settings.scans import ScanConfig
    from untrigger.tracking.watching import showing_work

    settings = nested_settings(options)
    if "dataset" not in settings:
        raise UserError("scan needs --dataset: the data that the models are for")
    if budget is not None:
        settings.setdefault("scan", {})["budget"] = budget
    config = ScanConfig.of(settings)
    with showing_work(Console(file=sys.stderr)) as on_work:
        scanned = scan_models(models, config, references, output, say=tell, on_work=on_work)
    results = scanned.results
    if as_json:
        for each in results:
            click.echo(each.model_dump_json())
    else:
        console = Console(file=sys.stdout)
        for each in results:
            console.print(classes_table(each))
        if len(results) > 1:
            console.print(verdicts_table(results))
        for sentence in scanned.sentences:
            click.echo(sentence)
        if results:
            click.echo(f"report: {output.resolve() / 'report.html'}")
    sys.exit(status_of(scanned))


@click.command(cls=ReferencesSettingsCommand)
@click.option(
    "--profile", help="Named settings of classifier and training, as `run` has them: demo, cpu, paper or tiny."
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the references."
)
@debug_option
def references(profile: str | None, output: Path, **options: Any) -> None:
    """Train clean models to compare a scanned one with, each from an initialisation of its own.

    They are to be of the architecture, the data and, as far as that is known, the recipe of the model that is scanned:
    then a clean model is one like them. 19 allow a verdict at a level of 5 %, 99 at one of 1 %. Finished ones are kept:
    the same command goes on where it was interrupted, and trains more with a larger --count.

    \b
    Examples:
      untrigger references --profile demo --output runs/references
      untrigger references --dataset cifar10 --classifier.architecture resnet18 --count 19 --output runs/resnet18
    """
    from rich.console import Console

    from untrigger.datasets.sources import read_split
    from untrigger.networks.devices import device
    from untrigger.profiles import references_config
    from untrigger.references import train_references
    from untrigger.runs.output_folder import OutputFolder
    from untrigger.seeding import derived_seed
    from untrigger.settings.scans import ReferencesConfig
    from untrigger.tracking.watching import showing_work

    settings = nested_settings(options)
    if profile is None and "dataset" not in settings:
        raise UserError("references need --dataset, the data that the models are for, or --profile")
    config = references_config(profile, settings, ReferencesConfig)
    training = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split")).training
    with OutputFolder(output).locked(), showing_work(Console(file=sys.stderr)) as on_work:
        trained = train_references(output, config, training.to(device()), on_work)
    click.echo(f"{trained} trained, {config.count - trained} there already: {output.resolve()}")
