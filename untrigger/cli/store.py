"""The commands of the object store. They hold no logic of their own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from untrigger.cli.messages import show_file, tell


@click.group()
def store() -> None:
    """Keep datasets, models, references, triggers and runs in an S3 object store.

    The store is the one in AWS_ENDPOINT_URL, with the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    `untrigger store up` starts one on this machine, with an MLflow server beside it.
    """


@store.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Data, logs, credentials.  [default: runs/servers]")
@click.option("--store-port", default=8333, show_default=True, help="Port of the object store (SeaweedFS).")
@click.option("--tracking-port", default=5000, show_default=True, help="Port of the MLflow server.")
def up(folder: Path | None, store_port: int, tracking_port: int) -> None:
    """Start an object store and an MLflow server on this machine, in the background."""
    from untrigger.storage.servers import DEFAULT_FOLDER, Servers

    servers = Servers(folder or DEFAULT_FOLDER)
    servers.up(store_port, tracking_port)
    click.echo(f"object store: http://127.0.0.1:{store_port}, bucket untrigger")
    click.echo(f"MLflow:       http://127.0.0.1:{tracking_port}")
    click.echo(f"use them:     . {shlex.quote(str(servers.environment_file))}")


@store.command()
@click.option("--folder", type=click.Path(path_type=Path), help="As given to `up`.  [default: runs/servers]")
def down(folder: Path | None) -> None:
    """Stop the servers that `up` started; their data stay."""
    from untrigger.storage.servers import DEFAULT_FOLDER, Servers

    stopped = Servers(folder or DEFAULT_FOLDER).down()
    click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@store.command()
@click.argument("address")
def create(address: str) -> None:
    """Create the bucket of ADDRESS, s3://bucket, unless it is there."""
    from untrigger.storage.objects import Address, ObjectStore

    bucket = Address.parse(address).bucket
    ObjectStore(tell).make_bucket(bucket)


@store.command()
@click.argument("source")
@click.argument("address")
def put(source: str, address: str) -> None:
    """Store SOURCE below ADDRESS, s3://bucket/prefix, and print where it is.

    SOURCE is a dataset (parquet:PATH, folder:PATH, cifar10:PATH, cifar100:PATH), a run's output folder, a folder with a
    classifier, a model file (.pt, .pth, .bin, .ckpt, .safetensors, .pt2, .onnx), an address of one in MLflow, a folder
    of references, or a trigger's .png or .safetensors file. What is already there, verified, is not uploaded again.
    """
    from untrigger.runs.publishing import publish

    click.echo(publish(source, address, show_file))


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
    from untrigger.storage.bundles import get_bundle
    from untrigger.storage.objects import Address, ObjectStore

    source = Address.parse(address)
    manifest = get_bundle(ObjectStore(tell), source, folder, only, show_file)
    if manifest.about.get("complete") is False:
        tell(f"warning: {source} is not complete: its run has not ended, or ended without the store")


@store.command()
@click.argument("address")
def ls(address: str) -> None:
    """List the datasets, models, references, triggers and runs below ADDRESS, s3://bucket/prefix."""
    from rich.console import Console

    from untrigger.cli.tables import bundles_table
    from untrigger.storage.bundles import bundles
    from untrigger.storage.objects import Address, ObjectStore

    base = Address.parse(address)
    Console(file=sys.stdout).print(bundles_table(bundles(ObjectStore(tell), base)))
