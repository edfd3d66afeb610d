"""The commands for a cluster: submit, runs, fetch, images. They hold no logic of their own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from untrigger.cli.messages import EXIT_FAILURE, EXIT_INTERRUPTED, debug_option, show_file, tell
from untrigger.cli.settings import (
    SETTING_PREFIX,
    SubmittedDefenceCommand,
    SubmittedGridCommand,
    SubmittedReferencesCommand,
    SubmittedScanCommand,
    SubmittedSettingsCommand,
    nested_settings,
    read_config,
)
from untrigger.cli.statuses import status_of
from untrigger.errors import UserError

if TYPE_CHECKING:
    from untrigger.pipelines.cluster.api import Cluster
    from untrigger.pipelines.cluster.submission import Submission
    from untrigger.pipelines.cluster.whole import ClusterRun, WholeRun
    from untrigger.reports.endings import RunResults
    from untrigger.settings.pipelines import RunConfig
    from untrigger.storage.objects import ObjectStore
    from untrigger.tracking.progress import Event

DEFAULT_ENDPOINT = "http://localhost:8080"

_ENDPOINT = click.option(
    "--endpoint",
    envvar="KF_PIPELINES_ENDPOINT",
    default=DEFAULT_ENDPOINT,
    show_default=True,
    metavar="URL",
    help="Kubeflow Pipelines.  [env: KF_PIPELINES_ENDPOINT; a token for it: UNTRIGGER_KFP_TOKEN]",
)
_NAMESPACE = click.option("--namespace", default="kubeflow", show_default=True, help="Where the stages run.")
_STORE = click.option(
    "--store",
    metavar="S3-ADDRESS",
    help="Inputs and artifacts go below it.  [default: what the cluster's untrigger-store names, else s3://untrigger]",
)
_ATTEMPTS = click.option(
    "--attempts",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="With --wait: start a run again that failed of what may pass (lost pods, evictions), so often in all.",
)


class Submit(click.Group):
    """`submit` with options alone is about planted triggers, as it was before there were other pipelines."""

    PLANTED = "planted"

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(context, args if args and args[0] in self.commands else [self.PLANTED, *args])


@click.group(cls=Submit)
def submit() -> None:
    """Submit a pipeline to Kubeflow Pipelines."""


def _submitting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the commands that submit a pipeline."""
    options = (
        _ENDPOINT,
        _NAMESPACE,
        _STORE,
        click.option(
            "--experiment",
            help="An experiment that is there, and MLflow's of that name.  [default: untrigger, created when missing]",
        ),
        click.option(
            "--name", help="What the run is called, in MLflow, too.  [default: what it is about, seed and time]"
        ),
        click.option(
            "--images",
            type=click.Path(path_type=Path),
            help="Digests of the images.  [default: k8s/images.json, if any]",
        ),
        click.option("--allow-unpinned", is_flag=True, help="Submit images by tag, where they have no digest."),
        click.option(
            "--placement", type=click.Path(path_type=Path), help="YAML file: GPU type, node selector, tolerations."
        ),
        click.option(
            "--skip-settings-check",
            is_flag=True,
            help="Do not look for the stages' settings in the namespace, nor for their images.",
        ),
        click.option("--dry-run", is_flag=True, help="Check all that needs no cluster, and say what would be done."),
        debug_option,
        click.option(
            "--wait", is_flag=True, help="Follow the stages to the end, show the results, and end with their status."
        ),
        _ATTEMPTS,
    )
    for option in reversed(options):
        command = option(command)
    return command


@submit.command(Submit.PLANTED, cls=SubmittedSettingsCommand)
@click.option("--profile", default="paper", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="JSON file with settings.")
@_submitting_options
def submit_planted(profile: str, config_file: Path | None, **options: Any) -> None:
    """Submit the pipeline to Kubeflow Pipelines: for one --trigger, or for a list of --triggers (the paper's sweep).

    Datasets and classifiers of this machine are put into the store first; `untrigger store --help` says how it is
    reached. With --wait the exit status is that of the run; Ctrl-C ends the waiting, never the run.

    `submit scan`, `submit references`, `submit defend` and `submit grid` do there what the commands of those names do
    here.

    \b
    Examples:
      untrigger submit --dataset parquet:data/cifar10 --dry-run
      untrigger submit --dataset parquet:data/cifar10 --trigger binary:7 --wait
      untrigger submit --triggers binary,colour:0-9 --dataset s3://untrigger/datasets/... --placement a100.yaml
      untrigger submit scan downloads/ --dataset parquet:data/cifar10 --references s3://untrigger/references/...
    """
    _submit_run(_config(profile, config_file, options), **_apart(options))


@submit.command("scan", cls=SubmittedScanCommand)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@_submitting_options
def submit_scan(models: tuple[str, ...], **options: Any) -> None:
    """Submit a scan of MODELs, which is what `untrigger scan` takes: each in a task of its own.

    Models, data and references of this machine are put into the store first. With --wait the status is that of
    `untrigger scan`, or 1 where the run failed; the verdicts stand in MLflow, too, and in what `untrigger fetch`
    brings.

    \b
    Example:
      untrigger submit scan downloads/ --dataset parquet:data/cifar10 --references runs/references --wait
    """
    from untrigger.checkpoints.models import models_in
    from untrigger.settings.model_runs import ScanRunConfig

    settings = _with_dataset("submit scan", options)
    _submit_run(ScanRunConfig.of({**settings, "models": models_in(models, tell)}), **_apart(options))


@submit.command("references", cls=SubmittedReferencesCommand)
@click.option("--profile", help="Named settings of classifier and training: demo, cpu, paper or tiny.")
@_submitting_options
def submit_references(profile: str | None, **options: Any) -> None:
    """Submit the training of clean references, each of which is scanned with --scan.* as well.

    They end in the store, at an address that --references takes; the run's page in MLflow and --wait tell it.

    \b
    Example:
      untrigger submit references --dataset parquet:data/cifar10 --classifier.architecture resnet18 --count 19 --wait
    """
    from untrigger.profiles import references_config
    from untrigger.settings.model_runs import ReferencesRunConfig

    settings = nested_settings(options) if profile else _with_dataset("submit references", options)
    _submit_run(references_config(profile, settings, ReferencesRunConfig), **_apart(options))


@submit.command("defend", cls=SubmittedDefenceCommand)
@click.argument("model")
@click.option("--profile", help="Named settings of search and retraining: demo, cpu, paper or tiny.")
@_submitting_options
def submit_defend(model: str, profile: str | None, **options: Any) -> None:
    """Submit the defence of a MODEL, as `untrigger defend` does it; `untrigger fetch` brings the retrained model.

    With --wait the status is that of `untrigger defend`, or 1 where the run failed.

    \b
    Example:
      untrigger submit defend model.pth --dataset parquet:data/cifar10 --references s3://untrigger/references/...
    """
    from untrigger.profiles import defence_config
    from untrigger.settings.model_runs import DefendRunConfig

    settings = {**_with_dataset("submit defend", options), "model": model}
    _submit_run(defence_config(profile, settings, DefendRunConfig), **_apart(options))


@submit.command("grid", cls=SubmittedGridCommand)
@click.option("--profile", default="demo", show_default=True, help="Named settings: demo, cpu, paper or tiny.")
@_submitting_options
def submit_grid(profile: str, **options: Any) -> None:
    """Submit a grid of attacks by methods of defence, as `untrigger grid` makes it: each backdoor beside the others.

    A grid that one workflow cannot hold is divided by its attacks; `untrigger fetch` brings all of it in one report.

    \b
    Example:
      untrigger submit grid --profile cpu --dataset parquet:data/cifar10 --seeds 5 --wait
    """
    from untrigger.profiles import grid_config
    from untrigger.settings.grids import GridRunConfig

    _submit_run(grid_config(profile, nested_settings(options), GridRunConfig), **_apart(options))


def _apart(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are no settings of the run."""
    return {name: value for name, value in options.items() if not name.startswith(SETTING_PREFIX)}


def _with_dataset(command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    settings = nested_settings(options)
    if "dataset" not in settings:
        raise UserError(f"{command} needs --dataset: the data that the models are for")
    return settings


def _submit_run(
    config: RunConfig,
    *,
    endpoint: str,
    namespace: str,
    store: str | None,
    experiment: str | None,
    name: str | None,
    images: Path | None,
    allow_unpinned: bool,
    placement: Path | None,
    skip_settings_check: bool,
    dry_run: bool,
    wait: bool,
    attempts: int,
) -> None:
    """Check, tell and submit a run, and follow it where that is wanted."""
    from untrigger.pipelines.cluster.placement import Placement
    from untrigger.pipelines.cluster.submission import Submission
    from untrigger.pipelines.images import read_pins_if_any

    _check_attempts(attempts, wait)
    placed = Placement.read(placement) if placement else Placement()
    submission = Submission.of(config, store, placed, read_pins_if_any(images), allow_unpinned=allow_unpinned)
    click.echo(f"placement: {placed.asked()} for each GPU stage")
    _tell_plan(submission)
    if store or dry_run:
        click.echo(f"artifacts: {submission.root}{'' if store else ', unless the cluster names another place'}")
    if dry_run:
        click.echo("dry run: nothing was sent; the cluster, its settings and the store were not looked at")
        return
    cluster = _checked_cluster(endpoint, namespace)
    if not skip_settings_check:
        submission = _checked_submission(submission, namespace)
    if not store:
        click.echo(f"artifacts: {submission.root}")
    _tell_started(cluster, _submit(submission, cluster, experiment, name), wait, attempts)


def _tell_started(cluster: Cluster, run_ids: Sequence[str], wait: bool, attempts: int) -> None:
    for run_id in run_ids:
        click.echo(f"run:       {run_id}\nlink:      {cluster.link(run_id)}")
    if wait:
        _wait(cluster, run_ids, attempts)
    else:
        click.echo(f"follow it: untrigger runs {run_ids[0]} --wait")


def _tell_plan(submission: Submission) -> None:
    """What is to be sent."""
    from untrigger.pipelines.cluster.division import MOST_NODES

    sizes, unpinned = submission.sizes(), len(submission.unpinned)
    click.echo(f"pipeline:  {submission.pipeline}, {len(submission.images)} images, {unpinned} without a digest")
    for number, size in enumerate(sizes, start=1):
        which = f", part {number} of {len(sizes)}" if len(sizes) > 1 else ""
        click.echo(f"workflow:  {size.nodes} nodes, {size.pods} pods{which}, where nothing comes from the cache")
    for source in submission.inputs_to_store():
        click.echo(f"to store:  {source}")
    if (most := max(size.nodes for size in sizes)) > MOST_NODES:
        packing = (name for name in type(submission.config).model_fields if name.endswith("_per_task"))
        tell(
            f"warning: {most} nodes may outgrow what Argo keeps of one workflow, {MOST_NODES} fit: raise "
            f"{' or '.join(f'--{name}'.replace('_', '-') for name in packing)}, unless its controller offloads node "
            "status"
        )


def _checked_cluster(endpoint: str, namespace: str) -> Cluster:
    from untrigger.pipelines.cluster.api import Cluster

    cluster = Cluster(endpoint, namespace)
    version = cluster.check_version()
    click.echo(f"cluster:   {cluster.shown}, Kubeflow Pipelines {version or 'of a version that it does not tell'}")
    return cluster


def _checked_submission(submission: Submission, namespace: str) -> Submission:
    """The submission, sent to where the cluster's settings say unless it was told where."""
    from untrigger.pipelines.cluster.registries import check_images
    from untrigger.pipelines.cluster.settings_check import check_settings

    checked = check_settings(namespace, submission.documents)
    check_images(submission.images)
    for warning in checked.warnings:
        tell(f"warning: {warning}")
    return replace(submission, store=submission.store or checked.store)


def _submit(submission: Submission, cluster: Cluster, experiment: str | None, name: str | None) -> list[str]:
    from untrigger.pipelines.cluster.submission import check_stored_inputs, submit
    from untrigger.settings.tracked import run_name

    check_stored_inputs(submission)
    experiment_id = cluster.experiment(experiment or "untrigger", create=experiment is None)
    return submit(
        submission,
        cluster,
        name=name or run_name(submission.config),
        experiment=experiment_id,
        tracked_in=experiment or "",
        tell=tell,
        on_file=show_file,
    )


def _config(profile: str, config_file: Path | None, options: Mapping[str, Any]) -> Any:
    from untrigger.profiles import CLUSTER_PACKING, config_for, laid_over
    from untrigger.settings.runs import DefenseConfig, SweepConfig

    settings = laid_over(read_config(config_file), nested_settings(options))
    if "trigger" in settings and ("triggers" in settings or "panels" in settings):
        raise UserError("--trigger plants one trigger, --triggers and --panels belong to a sweep: give one kind")
    packed = laid_over(CLUSTER_PACKING.get(profile, {}), settings)
    return config_for(profile, packed, SweepConfig if "triggers" in settings else DefenseConfig)


@click.command()
@click.argument("run", required=False)
@_ENDPOINT
@_NAMESPACE
@click.option("--experiment", help="Only the runs of this experiment.")
@click.option("--count", type=click.IntRange(1, 200), default=20, show_default=True, help="How many are listed.")
@debug_option
@click.option("--wait", is_flag=True, help="Follow RUN to its end, show its results, and end with their status.")
@click.option("--logs", metavar="STAGE", help="Print what this stage of RUN wrote, also when its pod is gone.")
def runs(
    run: str | None,
    endpoint: str,
    namespace: str,
    experiment: str | None,
    count: int,
    wait: bool,
    logs: str | None,
) -> None:
    """List the latest runs on the cluster; or show the stages of RUN, an id or a name."""
    from rich.console import Console

    from untrigger.cli.tables import runs_table
    from untrigger.pipelines.cluster.api import Cluster

    if (wait or logs) and run is None:
        raise UserError(f"{'--wait follows' if wait else '--logs shows a stage of'} one run: give its id or its name")
    cluster = Cluster(endpoint, namespace)
    if run is None:
        latest = cluster.latest_runs(count, experiment)
        Console(file=sys.stdout).print(runs_table(latest))
        _close_leftovers([part for whole in latest for part in whole.parts])
        return
    found = cluster.find_run(run)
    if wait:
        _wait(cluster, [part.id for part in found.parts])
        return
    if logs:
        _show_log(found, logs)
        return
    click.echo(f"run:   {found.id} ({found.name})\nstate: {found.state}")
    for part in found.parts:
        click.echo(f"link:  {cluster.link(part.id)}{f' ({part.name}: {part.state})' if part.part else ''}")
    for stage in found.stages:
        _show_stage(stage, found.id)
    _close_leftovers(found.parts)
    for part in found.parts:
        with _lost_runs_closed():
            if still := cluster.stillness(part):
                tell(f"warning: {still}")
    if found.missing:
        tell(f"warning: {found.missing} parts of it were never started: submit it again")


def _close_leftovers(runs: Sequence[ClusterRun], *lost: str) -> None:
    """End in MLflow what runs left open."""
    from untrigger.pipelines.cluster.leftovers import close_leftovers

    try:
        for run_id in close_leftovers(runs, lost):
            tell(f"closed in MLflow, as failed: the run {run_id}, which ended without its last stage")
    except UserError as error:
        tell(f"warning: whether runs are left open in MLflow was not seen: {error}")


@contextmanager
def _lost_runs_closed() -> Iterator[None]:
    from untrigger.pipelines.cluster.api import LostRun

    try:
        yield
    except LostRun as error:
        _close_leftovers((), error.run_id)
        raise


def _show_stage(stage: Event, run_id: str) -> None:
    """One line; after it the end of the log where the stage failed."""
    from untrigger.pipelines.cluster.artifacts import last_lines, stage_log
    from untrigger.pipelines.cluster.workflow import Stage
    from untrigger.storage.objects import ObjectStore

    click.echo(stage.line())
    if not isinstance(stage, Stage) or stage.kind != "failed":
        return
    try:
        log = stage_log(ObjectStore(), stage)
    except UserError as error:
        tell(f"warning: its log cannot be read: {error}")
        return
    for line in last_lines(log or "(nothing of its log is in the store)"):
        click.echo(f"    {line}")
    if log:
        click.echo(f"    all of it: untrigger runs {run_id} --logs {shlex.quote(stage.stage)}")


def _show_log(run: WholeRun, name: str) -> None:
    from untrigger.pipelines.cluster.artifacts import stage_log
    from untrigger.pipelines.cluster.workflow import stages_called
    from untrigger.storage.objects import ObjectStore

    found = stages_called(run.stages, name)
    if len(found) != 1:
        told = f"{len(found)} stages of the run match" if found else "the run has no stage"
        raise UserError(f"{told} {name!r}: give one of {', '.join(stage.stage for stage in found or run.stages)}")
    log = stage_log(ObjectStore(tell), found[0])
    if log is None:
        raise UserError(f"the store holds no log of {found[0].stage}: {found[0].line()}")
    click.echo(log, nl=False)


@click.command()
@click.argument("run")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Output folder.  [default: runs/RUN-ID]"
)
@_ENDPOINT
@_NAMESPACE
@debug_option
def fetch(run: str, folder: Path | None, output: Path | None, endpoint: str, namespace: str) -> None:
    """Fetch the report of RUN, an id or a name on the cluster, into the folder --output (or FOLDER, as it was before).

    Of a sweep that has failed, or a part of it, the report is over the triggers that have come to their results.
    `untrigger compare` takes that folder. For the runs of `untrigger run --store` see `untrigger store get`.
    """
    from untrigger.pipelines.cluster.api import Cluster
    from untrigger.pipelines.cluster.artifacts import fetch_results
    from untrigger.storage.objects import ObjectStore

    if folder and output:
        raise UserError(f"the output folder is given twice, as {folder} and as --output {output}: leave one out")
    found = Cluster(endpoint, namespace).find_run(run)
    output = output or folder or Path("runs") / found.id
    if missing := fetch_results(ObjectStore(tell), found, output, show_file):
        tell(f"warning: the run {found.id} is {found.state}, these triggers left no results: {', '.join(missing)}")
    report = output / "report.html"
    click.echo(f"report: {(report if report.exists() else output).resolve()}")


@click.command()
@click.argument("run")
@_ENDPOINT
@_NAMESPACE
@debug_option
@click.option("--wait", is_flag=True, help="Follow the stages to the end, show the results, and end with their status.")
@_ATTEMPTS
def resubmit(run: str, endpoint: str, namespace: str, wait: bool, attempts: int) -> None:
    """Start RUN, an id or a name, again with the same inputs: what it finished comes from KFP's cache.

    Of a divided sweep the parts that have succeeded are left as they are, unless all have.
    """
    from untrigger.pipelines.cluster.api import Cluster
    from untrigger.pipelines.cluster.states import GOING_ON

    _check_attempts(attempts, wait)
    cluster = Cluster(endpoint, namespace)
    found = cluster.find_run(run)
    again = cluster.start_whole_again(found)
    # A part that was started again has ended, whatever KFP says of it.
    _close_leftovers(found.parts, *(part.id for part in found.parts if part.state in GOING_ON))
    _tell_started(cluster, again, wait, attempts)


def _check_attempts(attempts: int, wait: bool) -> None:
    if attempts > 1 and not wait:
        raise UserError("--attempts starts a run again that has failed, which only --wait sees: give both")


def _wait(cluster: Cluster, run_ids: Sequence[str], attempts: int = 1) -> None:
    """Follow the run, or all parts of one, and what is started in its place; show results, end with their status."""
    from untrigger.pipelines.cluster.artifacts import read_results
    from untrigger.pipelines.cluster.whole import WholeRun
    from untrigger.storage.objects import ObjectStore

    store, run_ids = ObjectStore(tell), list(run_ids)
    for left in reversed(range(attempts)):
        try:
            with _lost_runs_closed():
                runs = cluster.follow(run_ids, partial(_show_stage, run_id=run_ids[0]))
        except KeyboardInterrupt:
            tell(f"the run goes on: {cluster.link(run_ids[0])}; `untrigger runs {run_ids[0]} --wait` follows it again")
            sys.exit(EXIT_INTERRUPTED)
        _close_leftovers(runs)
        passing = [run for run in runs if _tell_failure(cluster, run, bool(left))]
        if not (left and passing):
            break
        for run in passing:
            again = cluster.start_again(run.id)
            run_ids[run_ids.index(run.id)] = again
            click.echo(f"again:     {again}, since the cause may pass ({cluster.link(again)})")
    whole = WholeRun(tuple(runs))
    if whole.missing:
        tell(f"error: {whole.missing} parts of the run {whole.id} were never started: submit it again")
    if whole.state != "SUCCEEDED":
        sys.exit(EXIT_FAILURE)
    try:
        found = read_results(store, whole)
    except UserError as error:
        raise UserError(f"the run {whole.id} succeeded, but its results cannot be read: {error}") from error
    _show_results(found, store, whole)
    sys.exit(status_of(found))


def _tell_failure(cluster: Cluster, run: ClusterRun, more: bool) -> bool:
    """Say why a run has failed, if it has; whether another attempt may help. `more`: whether there will be one."""
    if run.state == "SUCCEEDED":
        return False
    reason = f": {run.reason}" if run.reason else ""
    tell(f"error: the run {run.id} is {run.state}{reason} ({cluster.link(run.id)})")
    lasting = [stage.stage for stage in run.stages if stage.kind == "failed" and not stage.may_pass]
    if lasting and more:
        tell(f"it is not started again: what {', '.join(lasting)} failed of would not pass")
    return not lasting and run.state == "FAILED"


def _show_results(found: RunResults, store: ObjectStore, run: WholeRun) -> None:
    from rich.console import Console

    from untrigger.pipelines.cluster.artifacts import run_artifacts
    from untrigger.reports.tables import final_lines, final_tables

    for table in final_tables(found):
        Console(file=sys.stdout).print(table)
    for line in final_lines(found):
        click.echo(line)
    for part in run.parts:
        click.echo(f"artifacts: {run_artifacts(store, part)}")
    click.echo(f"fetch it:  untrigger fetch {run.id}")


@click.group()
def images() -> None:
    """Pin the images of pipelines and manifests to digests."""


@images.command()
@click.option("--registry", required=True, help="Where the project's own images were pushed: REGISTRY/untrigger/...")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: k8s/images.json]")
@click.option("--plain-http", is_flag=True, help="For a registry without TLS.")
@click.argument("manifests", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
def pin(registry: str, output: Path | None, plain_http: bool, manifests: tuple[Path, ...]) -> None:
    """Resolve the images of the compiled pipelines, and of MANIFESTS' YAML files, to the digests that registries have.

    Nothing is written unless every image is resolved. Needs skopeo.
    """
    from untrigger.artifacts import write_json
    from untrigger.pipelines.images import PINS, named_images, resolved

    if not registry:
        raise UserError("no registry for the images of this project: make pin-images REGISTRY=...")
    pins: dict[str, str] = {}
    for image in named_images(manifests):
        pins[image] = resolved(image, registry, plain_http=plain_http)
        click.echo(f"{image} is {pins[image]}", err=True)
    write_json(output or PINS, {"images": pins})
    click.echo(f"wrote {output or PINS}: {len(pins)} images")


@images.command()
@click.option("--pins", type=click.Path(path_type=Path), help="File of digests.  [default: k8s/images.json, if any]")
@click.option("--allow-unpinned", is_flag=True, help="Leave images that have no digest as they are.")
def substitute(pins: Path | None, allow_unpinned: bool) -> None:
    """Read manifests from standard input and write them with every image pinned; refuse those that cannot be."""
    import yaml

    from untrigger.pipelines.images import images_in, is_pinned, read_pins_if_any, with_pins

    known = read_pins_if_any(pins)
    documents = [with_pins(document, known) for document in yaml.safe_load_all(sys.stdin)]
    unpinned = sorted(image for image in images_in(documents) if not is_pinned(image))
    if unpinned and not allow_unpinned:
        raise UserError(
            f"no digest for {', '.join(unpinned)}: `make pin-images REGISTRY=...` resolves them (without digests: "
            "--allow-unpinned, make deploy UNPINNED=1)"
        )
    click.echo(yaml.safe_dump_all(documents), nl=False)
