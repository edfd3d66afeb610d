"""The commands that run pipelines on this machine and look at what came of it. They hold no logic of their own."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from untrigger.cli.messages import EXIT_UNTRACKED, debug_option, tell
from untrigger.cli.settings import (
    SettingsCommand,
    SweepSettingsCommand,
    nested_settings,
    read_config,
)
from untrigger.errors import UserError, without_credentials

if TYPE_CHECKING:
    from untrigger.settings.runs import DefenseConfig, SweepConfig


def _running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the commands that run a pipeline on this machine."""
    options = (
        debug_option,
        click.option(
            "--config", "config_file", type=click.Path(path_type=Path), help="JSON file with settings, as in a report."
        ),
        click.option(
            "--resume", is_flag=True, help="Go on with the run in the output folder; finished stages are reused."
        ),
        click.option("--overwrite", is_flag=True, help="Replace the run in the output folder."),
        click.option(
            "--runner",
            type=click.Choice(["subprocess", "docker"]),
            default="subprocess",
            show_default=True,
            help="Every stage is a process, or a container of its own image (`make images` builds them).",
        ),
        click.option("--gpus", metavar="N|all", help="GPUs that --runner docker hands to every container."),
        click.option(
            "--memory", default="8g", show_default=True, help="Memory that --runner docker allows a container."
        ),
        click.option(
            "--store", metavar="S3-ADDRESS", help="Publish every artifact below this address, s3://bucket/prefix."
        ),
        click.option(
            "--allow-untracked", is_flag=True, help="End with status 0, not 5, when MLflow did not take every record."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=SettingsCommand)
@click.option("--profile", default="demo", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@click.option("--output", type=click.Path(path_type=Path), help="Output folder.  [default: runs/PROFILE]")
@_running_options
def run(profile: str, output: Path | None, config_file: Path | None, **options: Any) -> None:
    """Run the whole pipeline for one trigger on this machine.

    A setting comes from its option, else from --config, else from --profile, else from the defaults shown here, which
    are the paper's. The profile demo needs no data and no GPU.

    \b
    Examples:
      untrigger run
      untrigger run --profile cpu --dataset parquet:data/cifar10 --output runs/cifar
      untrigger run --betas 0.6,0.9,top --flow.steps 1600 --seed 1
      untrigger run --weights s3://untrigger/models/... --poisoning.epochs 0 --dataset parquet:PATH --trigger patch.png
      untrigger run --runner docker --gpus all --store s3://untrigger
    """
    from untrigger.profiles import config_for, laid_over
    from untrigger.settings.runs import DefenseConfig

    settings = laid_over(read_config(config_file), nested_settings(options))
    _run_pipeline(config_for(profile, settings, DefenseConfig), output or Path("runs") / profile, options)


@click.command(cls=SweepSettingsCommand)
@click.option("--profile", default="paper", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@click.option("--output", type=click.Path(path_type=Path), help="Output folder.  [default: runs/sweep-PROFILE]")
@_running_options
def sweep(profile: str, output: Path | None, config_file: Path | None, **options: Any) -> None:
    """Run the paper's experiment on this machine: plant, search for and close one trigger after the other.

    Clean training is shared. The report sets every method's attack success beside the published figures, and holds
    the report of each trigger. --resume goes on after an interruption; triggers may be added then. `untrigger paper` is
    the same command under its earlier name.

    \b
    Examples:
      untrigger sweep --triggers binary,colour:0-9 --dataset cifar10:data
      untrigger sweep --profile cpu --triggers binary:0-5,colour:0-1 --dataset parquet:data/cifar10
      untrigger sweep --profile tiny --triggers list.txt
    """
    from untrigger.profiles import config_for, laid_over
    from untrigger.settings.runs import SweepConfig

    settings = laid_over(read_config(config_file), nested_settings(options))
    output = output or Path("runs") / f"sweep-{profile}"
    _run_pipeline(config_for(profile, settings, SweepConfig), output, options)


def _run_pipeline(config: DefenseConfig | SweepConfig, output: Path, options: Mapping[str, Any]) -> None:
    from rich.console import Console

    from untrigger.pipelines.local.containers import ContainerOptions
    from untrigger.pipelines.local.protocol import RunOptions, local_run
    from untrigger.tracking.watching import watching

    in_containers = options["runner"] == "docker"
    containers = ContainerOptions(options["gpus"], options["memory"]) if in_containers else None
    how = RunOptions(output, options["resume"], options["overwrite"], containers, options["store"])
    console = Console(file=sys.stdout)
    with local_run(config, how) as run:
        with watching(run.folder.progress, console):
            results = run.execute()
        from untrigger.reports.tables import final_tables

        for table in final_tables(results):
            console.print(table)
        click.echo(f"report:  {run.folder.path / 'report.html'}")
        click.echo(f"results: {run.folder.results}")
        click.echo(f"MLflow:  {_how_to_open_tracking(run.folder.tracking_uri)}")
    if run.publisher is not None:
        click.echo(f"stored:  {run.publisher.address}")
    if untracked := run.untracked():
        tell(f"warning: {untracked}")
        if not options["allow_untracked"]:
            sys.exit(EXIT_UNTRACKED)


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison as one page too.")
def compare(runs: tuple[str, ...], html: Path | None) -> None:
    """Compare finished RUNS: output folders, or addresses in an object store (s3://bucket/prefix/runs/ID).

    Differences are against the first one, and marked where their 95 % interval leaves out 0: in runs of one trigger by
    Welch's t over the retraining seeds; in sweeps, which are compared over the triggers that all of them have, by
    Student's t over those.
    """
    from rich.console import Console

    from untrigger.reports.comparison import write_comparison
    from untrigger.reports.tables import comparison_tables
    from untrigger.runs.reading import read_runs

    if len(runs) < 2:
        raise UserError("give at least two runs to compare")
    found = read_runs(runs)
    console = Console(file=sys.stdout)
    for table in comparison_tables(found):
        console.print(table)
    if html is not None:
        write_comparison(html, found)
        click.echo(f"page: {html.resolve()}")


@click.command()
@click.argument("sweeps", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="A folder for the report."
)
def join(sweeps: tuple[Path, ...], output: Path) -> None:
    """Bring finished SWEEPS over different triggers together as one: table, figure and report over all of them.

    They are output folders of `untrigger sweep`, or what `untrigger fetch` brought, and must agree in all settings but
    the triggers.
    """
    from rich.console import Console

    from untrigger.reports.joining import join_sweeps
    from untrigger.reports.tables import final_tables

    console = Console(file=sys.stdout)
    for table in final_tables(join_sweeps(sweeps, output)):
        console.print(table)
    click.echo(f"report:  {output.resolve() / 'report.html'}")


@click.command()
@click.argument("model", metavar="FILE")
@click.option(
    "--dataset", metavar="NAME", help="Compare normalisations by accuracy on these data, as `run` takes them."
)
@click.option(
    "--classifier.architecture", "architecture", metavar="NAME", help="Take no other network than this, or yours."
)
@click.option("--classifier.normalisation", "normalisation", metavar="NAME", help="Compare no other than this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(
    model: str, dataset: str | None, architecture: str | None, normalisation: str | None, as_json: bool
) -> None:
    """Say what a model FILE is, without running anything in it.

    FILE is a model file made elsewhere (.pt, .pth, .bin, .ckpt, .safetensors, .pt2, .onnx), the folder `classifier` of
    a run, an address in a store, or one in MLflow (models:/NAME/VERSION, runs:/RUN-ID/PATH). What holds more than
    tensors, numpy arrays and plain containers is refused by name.
    """
    from untrigger.checkpoints.inspection import inspected
    from untrigger.datasets.sources import read_split
    from untrigger.seeding import derived_rng, derived_seed
    from untrigger.settings.methods import AS_IN_FILE, ClassifierSettings, DataSettings
    from untrigger.storage.sources import model_place

    told = {"architecture": architecture or AS_IN_FILE, "normalisation": normalisation}
    images = None if dataset is None else read_split(dataset, DataSettings(), seed=derived_seed(0, "split")).defender
    settings = ClassifierSettings.of(told)
    found = inspected(model_place(model), images, settings, derived_rng(0, "normalisation"))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"SHA-256:       {found['sha256']}")
    click.echo(f"kind:          {found['kind']}, names as in {found['dialect']}")
    options = {name: f"--classifier.{name.replace('_', '-')}" for name in ("width", "stem_width") if name in found}
    width = "".join(f" with {option} {found[name]}" for name, option in options.items())
    click.echo(f"network:       {found['architecture']}{width}, {found['classes']} classes")
    for each in found["normalisation"]:
        click.echo(f"normalisation: {each['name']}, {100 * each['accuracy']:.1f} % right")


@click.command()
@click.argument("output", type=click.Path(path_type=Path, exists=True, file_okay=False))
def track(output: Path) -> None:
    """Deliver what a finished run in OUTPUT could not deliver to MLflow, because its server was away."""
    from untrigger.pipelines.local.run import deliver_tracking
    from untrigger.runs.output_folder import OutputFolder

    count = deliver_tracking(OutputFolder(output))
    click.echo(f"delivered {count} records" if count else "nothing to deliver")


@click.command(name="compile")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to write.  [default: where the committed ones are]"
)
def compile_pipelines(folder: Path | None) -> None:
    """Compile the DAGs to the YAML that Kubeflow Pipelines runs: defense, paper, scan, references, defend, grid."""
    from untrigger.pipelines.compilation import compile_all

    for path in compile_all(folder):
        click.echo(f"wrote {path}")


@click.command()
def datasets() -> None:
    """List the datasets that --dataset takes."""
    from untrigger.datasets.sources import descriptions

    known = descriptions()
    width = max(len(name) for name in known)
    for name, description in known.items():
        click.echo(f"{name:<{width}}  {description}")


def _how_to_open_tracking(local_uri: str) -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", local_uri)
    return (
        f"mlflow ui --backend-store-uri {shlex.quote(uri)}" if uri.startswith("sqlite:") else without_credentials(uri)
    )
