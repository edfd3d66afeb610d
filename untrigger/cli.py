"""The command line; it holds no logic of its own and imports what is heavy only when it is used."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from untrigger import __version__
from untrigger.errors import UserError, without_credentials

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from untrigger.settings import CommonConfig, DefenseConfig, SweepConfig

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
SETTING_PREFIX = "setting__"
LISTS = ("betas", "gammas", "methods", "triggers", "panels")


class Commands(click.Group):
    """The command group; it turns a UserError into one sentence and a non-zero exit."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            if context.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(EXIT_USER_ERROR)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted: add --resume to the same command to go on from the finished stages", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if context.params.get("debug"):
                raise
            click.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
            sys.exit(EXIT_FAILURE)


class SettingsCommand(click.Command):
    """A command with one option per setting, listed in `--help` under the part it belongs to."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        return [*super().get_params(context), *_settings_options(self.settings())]

    def settings(self) -> type[CommonConfig]:
        """The settings that become options."""
        from untrigger.settings import DefenseConfig

        return DefenseConfig

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                part = parameter.section if isinstance(parameter, SettingOption) else "Options"
                sections.setdefault(part, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class SweepSettingsCommand(SettingsCommand):
    """The same for a sweep over triggers."""

    def settings(self) -> type[CommonConfig]:
        from untrigger.settings import SweepConfig

        return SweepConfig


class SettingOption(click.Option):
    """An option that stands for one setting, such as --generator.epochs for config.generator.epochs."""

    def __init__(self, section: str, path: tuple[str, ...], *, flag: bool, help: str) -> None:
        self.section = section
        self.path = path
        name = ".".join(path).replace("_", "-")
        names = [f"--{name}/--no-{name}" if flag else f"--{name}", SETTING_PREFIX + "__".join(path)]
        if path == ("data", "download"):
            names.append("--download")
        attributes: dict[str, Any] = {"is_flag": True} if flag else {"metavar": "VALUE"}
        super().__init__(names, default=None, help=help, **attributes)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find the distribution of backdoor triggers in an image classifier, and retrain it to ignore them.

    Start with `untrigger run`: it plants a backdoor, searches for its triggers with MESA and with pixel-space SGD,
    retrains against them, and writes a report.
    """


def _debug_too(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        context.find_root().params["debug"] = True


def _running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the commands that run a pipeline on this machine."""
    options = (
        click.option(
            "--debug", is_flag=True, expose_value=False, callback=_debug_too, help="Show the traceback of an error."
        ),
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
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command(cls=SettingsCommand)
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
      untrigger run --betas 0.6,0.9 --generator.epochs 200 --seed 1
      untrigger run --weights s3://untrigger/models/... --poisoning.epochs 0 --trigger patch.png
      untrigger run --runner docker --gpus all --store s3://untrigger
    """
    from untrigger.profiles import config_for, laid_over
    from untrigger.settings import DefenseConfig

    settings = laid_over(_read_config(config_file), _nested(options))
    _run_pipeline(
        config_for(profile, settings, DefenseConfig), output or Path("runs") / profile, **_run_options(options)
    )


@main.command(cls=SweepSettingsCommand)
@click.option("--profile", default="paper", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@click.option("--output", type=click.Path(path_type=Path), help="Output folder.  [default: runs/triggers-PROFILE]")
@_running_options
def paper(profile: str, output: Path | None, config_file: Path | None, **options: Any) -> None:
    """Run the paper's experiment on this machine: plant, search for and close one trigger after the other.

    Clean training is shared. The report sets every method's attack success beside the published figures, and holds
    the report of each trigger. --resume goes on after an interruption; triggers may be added then.

    \b
    Examples:
      untrigger paper --triggers binary,colour:0-9 --dataset cifar10:data
      untrigger paper --profile cpu --triggers binary:0-5,colour:0-1 --dataset parquet:data/cifar10
      untrigger paper --profile tiny --triggers list.txt
    """
    from untrigger.profiles import config_for, laid_over
    from untrigger.settings import SweepConfig

    settings = laid_over(_read_config(config_file), _nested(options))
    output = output or Path("runs") / f"triggers-{profile}"
    _run_pipeline(config_for(profile, settings, SweepConfig), output, **_run_options(options))


def _run_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are no settings."""
    return {name: value for name, value in options.items() if not name.startswith(SETTING_PREFIX)}


def _run_pipeline(
    config: DefenseConfig | SweepConfig,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    runner: str,
    gpus: str | None,
    memory: str,
    store: str | None,
) -> None:
    from rich.console import Console

    from untrigger.output_folder import OutputFolder
    from untrigger.pipelines.arguments import last_stage
    from untrigger.pipelines.containers import ContainerOptions, check_engine
    from untrigger.pipelines.inputs import RunInputs
    from untrigger.pipelines.local import check_tracking, run_locally
    from untrigger.publishing import RunPublisher, check_store, publishing

    containers = ContainerOptions(gpus, memory) if runner == "docker" else None
    if containers is not None and config.data.download:
        raise UserError("--download needs a network, which containers do not get: fetch the dataset without it first")
    inputs = RunInputs.of(config)
    if containers is not None:
        check_engine()
    check_tracking()
    published_below = check_store(store) if store else None
    folder = OutputFolder(output)
    folder.open(config.record(), inputs.files, resume=resume, overwrite=overwrite)

    from untrigger.display import final_tables, watching

    publisher = RunPublisher(folder, published_below) if published_below else None
    console = Console(file=sys.stdout)
    with watching(folder.progress, console), publishing(publisher):
        run_locally(config, folder, inputs.places, containers)
    for table in final_tables(folder.publish(last_stage(config))):
        console.print(table)
    click.echo(f"report:  {folder.path / 'report.html'}")
    click.echo(f"results: {folder.results}")
    click.echo(f"MLflow:  {_how_to_open_tracking(folder.tracking_uri)}")
    if publisher is not None:
        publisher.everything()
        click.echo(f"stored:  {publisher.address}")
    folder.close()


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison as one page too.")
def compare(runs: tuple[str, ...], html: Path | None) -> None:
    """Compare finished RUNS: output folders, or addresses in an object store (s3://bucket/prefix/runs/ID).

    Differences are against the first one, and marked where they are larger than both standard deviations together.
    """
    from rich.console import Console

    from untrigger.comparison import read_run, write_comparison
    from untrigger.display import comparison_tables

    if len(runs) < 2:
        raise UserError("give at least two runs to compare")
    found = [read_run(name) for name in runs]
    console = Console(file=sys.stdout)
    for table in comparison_tables(found):
        console.print(table)
    if html is not None:
        write_comparison(html, found)
        click.echo(f"page: {html.resolve()}")


@main.command()
@click.argument("output", type=click.Path(path_type=Path, exists=True, file_okay=False))
def track(output: Path) -> None:
    """Deliver what a finished run in OUTPUT could not deliver to MLflow, because its server was away."""
    from untrigger.output_folder import OutputFolder
    from untrigger.pipelines.local import deliver_tracking

    count = deliver_tracking(OutputFolder(output))
    click.echo(f"delivered {count} records" if count else "nothing to deliver")


@main.group()
def store() -> None:
    """Keep datasets, models and runs in an S3 object store.

    The store is the one in AWS_ENDPOINT_URL, with the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    `untrigger store up` starts one on this machine, with an MLflow server beside it.
    """


@store.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Data, logs, credentials.  [default: runs/servers]")
@click.option("--store-port", default=8333, show_default=True, help="Port of the object store (SeaweedFS).")
@click.option("--tracking-port", default=5000, show_default=True, help="Port of the MLflow server.")
def up(folder: Path | None, store_port: int, tracking_port: int) -> None:
    """Start an object store and an MLflow server on this machine, in the background."""
    from untrigger.servers import DEFAULT_FOLDER, Servers

    servers = Servers(folder or DEFAULT_FOLDER)
    servers.up(store_port, tracking_port)
    click.echo(f"object store: http://127.0.0.1:{store_port}, bucket untrigger")
    click.echo(f"MLflow:       http://127.0.0.1:{tracking_port}")
    click.echo(f"use them:     . {servers.environment_file}")


@store.command()
@click.option("--folder", type=click.Path(path_type=Path), help="As given to `up`.  [default: runs/servers]")
def down(folder: Path | None) -> None:
    """Stop the servers that `up` started; their data stay."""
    from untrigger.servers import DEFAULT_FOLDER, Servers

    stopped = Servers(folder or DEFAULT_FOLDER).down()
    click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@store.command()
@click.argument("address")
def create(address: str) -> None:
    """Create the bucket of ADDRESS, s3://bucket, unless it is there."""
    from untrigger.storage import Address, ObjectStore

    bucket = Address.parse(address).bucket
    ObjectStore(_tell).make_bucket(bucket)


@store.command()
@click.argument("source")
@click.argument("address")
def put(source: str, address: str) -> None:
    """Store SOURCE below ADDRESS, s3://bucket/prefix, and print where it is.

    SOURCE is a dataset (parquet:PATH, folder:PATH, cifar10:PATH, cifar100:PATH), a run's output folder, or a folder
    with a classifier. What is already there, verified, is not uploaded again.
    """
    from untrigger.publishing import publish

    click.echo(publish(source, address, _show_file))


@store.command()
@click.argument("address")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", multiple=True, metavar="PATH", help="Only this file or folder of it; may be given repeatedly.")
def get(address: str, folder: Path, only: tuple[str, ...]) -> None:
    """Fetch what is at ADDRESS, as `put` or `run --store` printed it, into FOLDER, and verify it.

    \b
    Example:
      untrigger store get s3://untrigger/runs/RUN-ID here --only report.html --only classifier
    """
    from untrigger.bundles import get_bundle
    from untrigger.storage import Address, ObjectStore

    source = Address.parse(address)
    manifest = get_bundle(ObjectStore(_tell), source, folder, only, _show_file)
    if manifest.about.get("complete") is False:
        _tell(f"warning: {source} is not complete: its run has not ended, or ended without the store")


@store.command()
@click.argument("address")
def ls(address: str) -> None:
    """List the datasets, models and runs below ADDRESS, s3://bucket/prefix."""
    from rich.console import Console

    from untrigger.bundles import bundles
    from untrigger.display import bundles_table
    from untrigger.storage import Address, ObjectStore

    base = Address.parse(address)
    Console(file=sys.stdout).print(bundles_table(bundles(ObjectStore(_tell), base)))


def _show_file(path: str, done: int, total: int, moved: bool) -> None:
    click.echo(f"{done} of {total}: {path}{'' if moved else ' (already there)'}", err=True)


def _tell(text: str) -> None:
    click.echo(text, err=True)


@main.command(name="compile")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to write.  [default: where the committed ones are]"
)
def compile_pipelines(folder: Path | None) -> None:
    """Compile the DAGs `defense` and `paper` to the YAML that Kubeflow Pipelines runs."""
    from untrigger.pipelines.compilation import compile_all

    for path in compile_all(folder):
        click.echo(f"wrote {path}")


@main.command()
def datasets() -> None:
    """List the datasets that --dataset takes."""
    from untrigger.datasets import DESCRIPTIONS

    width = max(len(name) for name in DESCRIPTIONS)
    for name, description in DESCRIPTIONS.items():
        click.echo(f"{name:<{width}}  {description}")


def _settings_options(config: type[CommonConfig]) -> list[click.Parameter]:
    from untrigger.settings import Settings

    options: list[click.Parameter] = []
    for name, field in config.model_fields.items():
        default = field.default
        if isinstance(default, Settings):
            section = f"--{name.replace('_', '-')}.*: {type(default).__doc__}"
            for inner, inner_field in type(default).model_fields.items():
                options.append(_option(section, (name, inner), inner_field))
        else:
            options.append(_option("Settings of the whole run", (name,), field))
    return sorted(options, key=lambda option: isinstance(option, SettingOption) and len(option.path))


def _option(section: str, path: tuple[str, ...], field: FieldInfo) -> SettingOption:
    default = field.default
    shown = ",".join(f"{item}" for item in default) if isinstance(default, tuple) else default
    help_text = field.description or ""
    help_text += "" if shown is None else f"  [default: {str(shown).lower() if isinstance(default, bool) else shown}]"
    return SettingOption(section, path, flag=isinstance(default, bool), help=help_text)


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, nested like the configuration."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None and name.startswith(SETTING_PREFIX):
            *parents, last = name.removeprefix(SETTING_PREFIX).split("__")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = _items(value) if last in LISTS else value
    return nested


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"the configuration {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"the configuration {path} must be a JSON object")
    return content


def _how_to_open_tracking(local_uri: str) -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", local_uri)
    return f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else without_credentials(uri)
