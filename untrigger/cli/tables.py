"""What the commands list, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from untrigger.pipelines.cluster.whole import WholeRun
    from untrigger.storage.bundles import Manifest
    from untrigger.storage.objects import Address


def bundles_table(found: Sequence[tuple[Address, Manifest]]) -> Table:
    """What lies in a store: address, kind, size, when it was put there, what it is."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("address", "files", "MB", "created", "about"):
        table.add_column(name, overflow="fold", justify="right" if name in ("files", "MB") else "left")
    for address, manifest in found:
        about = ", ".join(f"{name} {value}" for name, value in manifest.about.items() if name != "created")
        size = f"{manifest.size / 1e6:.1f}"
        table.add_row(str(address), str(len(manifest.files)), size, manifest.about.get("created", ""), about)
    return table


def runs_table(runs: Sequence[WholeRun]) -> Table:
    """Runs on a cluster: id, state, when they were created, name; a divided sweep is one."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "state", "created (UTC)", "name"):
        table.add_column(name, overflow="fold", no_wrap=name != "name")
    for run in runs:
        began = run.parts[0].created
        created = f"{began:%Y-%m-%d %H:%M}" if began else ""
        parts = f" ({len(run.parts)} parts)" if run.parts[0].part else ""
        # As text: brackets in a name would be taken for markup.
        table.add_row(run.id, run.state, created, Text(run.name + parts))
    return table
