"""The command line; it holds no logic of its own and imports what is heavy only when it is used."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from untrigger import __version__
from untrigger.cli.cluster import fetch, images, resubmit, runs, submit
from untrigger.cli.defend import defend
from untrigger.cli.distribution import sample, truth
from untrigger.cli.grid import grid
from untrigger.cli.local import compare, compile_pipelines, datasets, inspect, join, run, sweep, track
from untrigger.cli.messages import EXIT_FAILURE, EXIT_USER_ERROR, signals_raised, tell
from untrigger.cli.scan import references, scan
from untrigger.cli.store import store
from untrigger.cli.surroundings import spare_loopback, write_what_can_be_written
from untrigger.errors import UserError, notices_told

ALIASES = {"paper": "sweep"}
"""Earlier names of commands, which keep working."""


EXTRAS = {
    **dict.fromkeys(("run", "sweep", "grid", "track", "compile"), "pipelines"),
    **dict.fromkeys(("submit", "resubmit", "runs", "fetch", "images"), "cluster"),
    "store": "servers",
}
"""The extra of the package that a command needs; `store` for the others, which may read a run from there."""


class Commands(click.Group):
    """The command group; it turns a UserError into one sentence and a non-zero exit."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, ALIASES.get(name, name))

    def invoke(self, context: click.Context) -> Any:
        spare_loopback()
        write_what_can_be_written()
        try:
            with signals_raised(), notices_told(lambda notice: tell(f"warning: {notice}")):
                return super().invoke(context)
        except UserError as error:
            if context.params.get("debug"):
                raise
            tell(f"error: {error}")
            sys.exit(EXIT_USER_ERROR)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            # Of a reader that has gone away click makes a quiet end.
            raise
        except KeyboardInterrupt as interrupt:
            by = signal.Signals(interrupt.args[0]) if interrupt.args else signal.SIGINT
            how = "" if by is signal.SIGINT else f" by {by.name}"
            tell(f"interrupted{how}: {_how_to_go_on(context.invoked_subcommand)}")
            sys.exit(128 + by)
        except Exception as error:
            if context.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError):
                name = ALIASES.get(context.invoked_subcommand or "", context.invoked_subcommand)
                extra = EXTRAS.get(name or "", "store")
                tell(f"error: `untrigger {name}` needs {error.name}: pip install 'untrigger[{extra}]'")
                sys.exit(EXIT_USER_ERROR)
            if isinstance(error, OSError) and error.strerror:
                tell(f"error: {error.filename or error.__class__.__name__}: {error.strerror} (--debug shows where)")
                sys.exit(EXIT_USER_ERROR)
            tell(f"error: {type(error).__name__}: {error} (--debug shows where)")
            sys.exit(EXIT_FAILURE)


def _how_to_go_on(command: str | None) -> str:
    if command in ("run", "sweep", *ALIASES):
        return "add --resume to the same command to go on from the finished stages"
    if command == "scan":
        return "what was found in references is kept; give the same command again"
    return "the same command does what is left to do"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find the distribution of backdoor triggers in an image classifier, and retrain it to ignore them.

    Start with `untrigger run`: it plants a backdoor, searches for its triggers with MESA and with pixel-space SGD,
    retrains against them, and writes a report. `untrigger submit` does the same on a cluster.
    """


OF_OTHERS = (inspect, scan, references, defend)
LOCAL = (run, sweep, grid, *OF_OTHERS, compare, join, truth, sample, track, datasets, compile_pipelines, store)
for command in (*LOCAL, submit, resubmit, runs, fetch, images):
    main.add_command(command)
