"""What was found in models of others, and done about it, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from untrigger.reports.defences import DefenceResult
from untrigger.reports.scans import ScanResult, ranking, searched, shown

RANKED = 5
"""Classes in the table of a scan; its page has all."""


def verdicts_table(results: Sequence[ScanResult]) -> Table:
    """One line per model."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="verdicts")
    table.add_column("model", overflow="fold")
    for name in ("verdict", "p", "references", "class", "patch", "clean %", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in results:
        p_value = "" if each.p_value is None else f"{each.p_value:.3g}"
        target = "" if each.target_class is None else f"{each.target_class}"
        seconds = f"{each.seconds + each.mask_seconds:.0f}"
        accuracy = f"{100 * each.accuracy:.1f}"
        search = searched(each.search) if each.search else ""
        table.add_row(
            escape(each.model), each.marked_verdict, p_value, f"{each.references}", target, search, accuracy, seconds
        )
    return table


def classes_table(result: ScanResult, count: int = RANKED) -> Table:
    """The classes that stand out most: per search the share of images sent there, of masks the norm."""
    measured = result.measured
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        min_width=72,
        title=f"{escape(result.model)}: images of other classes sent to a class, %",
        caption="mask: its norm in pixels; p: rank among the references, of each search by itself",
    )
    for name in ("class", "without", *map(searched, measured.searches)):
        table.add_column(name, justify="right", no_wrap=True)
    for target, arms in ranking(result)[:count]:
        floor = f"{100 * next(iter(arms.values())).floor:.1f}"
        table.add_row(f"{target}", floor, *(shown(arms[search]) for search in measured.searches))
    if result.ranks:
        table.add_section()
        table.add_row("p", "", *(f"{result.ranks[search]:.3g}" for search in measured.searches))
    return table


def defence_table(result: DefenceResult) -> Table:
    """Before and after, in per cent."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{escape(result.model)}, on images held out, %")
    masked = result.before.mask is not None
    for name in ("", "clean accuracy", "mask found" if masked else "strongest trigger", "without"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    if masked:
        table.add_column("smallest mask, pixels", justify="right", no_wrap=True)
    for name, opened in result.lines:
        rates = (opened.accuracy, opened.strongest, opened.floor)
        norm = [] if opened.mask is None else [f"{opened.mask:.0f}"]
        table.add_row(name, *("" if rate is None else f"{100 * rate:.1f}" for rate in rates), *norm)
    return table
