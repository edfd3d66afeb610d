"""What commands say beside their results."""

import click


def show_file(path: str, done: int, total: int, moved: bool) -> None:
    """An `OnFile` that says one line on standard error."""
    click.echo(f"{done} of {total}: {path}{'' if moved else ' (already there)'}", err=True)


def tell(text: str) -> None:
    """Say something on standard error, where it does not mix with results."""
    click.echo(text, err=True)
