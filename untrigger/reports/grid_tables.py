"""The tables of a grid: for a terminal, a page, a spreadsheet and a paper."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from untrigger.reports.grids import NOT_APPLICABLE, PATCHES_ONLY, GridResult, GridRow, PairedDifference
from untrigger.reports.pages import Picture, write_page
from untrigger.reports.results import ENSEMBLE

if TYPE_CHECKING:
    from rich.table import Table

WRITTEN = ("report.html", "grid.csv", "grid.tex", GridResult.FILE)
"""What `write_grid` writes, but for the heat map."""

EXPLAINED = {
    NOT_APPLICABLE: f"{NOT_APPLICABLE}: the search is for one class's trigger, and here are as many as classes",
    PATCHES_ONLY: f"* {PATCHES_ONLY}: the search is for a patch, which this trigger is not",
}
"""What the notes say that need more words."""


Cells = Mapping[tuple[str, str], str]
"""What stands in a table, by attack and method."""


def grid_tables(found: GridResult) -> list[Table]:
    """Attack success, clean accuracy and cost, a line per method and a column per attack; and the differences."""
    measured = f"{found.dataset}, {found.classifier}"
    rows = {(row.attack, row.method): row for row in found.rows}

    def shown(show: Callable[[GridRow], str]) -> Cells:
        return {pair: show(row) for pair, row in rows.items()}

    success, accuracy = (shown(partial(shown_rate, rate=rate)) for rate in ("asr", "accuracy"))
    differences = {(each.attack, each.b): shown_difference(each) for each in found.paired}
    tables = [
        _by_attack(found.attacks, success, f"{measured}: attack success %", "; ".join(notes(found))),
        _by_attack(found.attacks, accuracy, f"{measured}: clean accuracy %"),
        _by_attack(found.attacks, shown(shown_cost), "seconds / thousand images through the network, a seed"),
    ]
    if not differences:
        return tables
    title = f"attack success left by {ENSEMBLE} less that of another, points"
    return [*tables, _by_attack(found.attacks, differences, title, "in brackets the 95 % interval of the paired mean")]


def _by_attack(attacks: Sequence[str], cells: Cells, title: str, caption: str = "") -> Table:
    """A line per method and a column per attack."""
    from rich.box import SIMPLE_HEAD  # no stage shows anything in a terminal, and their images do without
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title, caption=caption, min_width=len(title)
    )
    table.add_column("method", no_wrap=True)
    for attack in attacks:
        table.add_column(attack, justify="right")
    for method in dict.fromkeys(method for _, method in cells):
        table.add_row(method, *(cells.get((attack, method), "-") for attack in attacks))
    return table


def shown_rate(row: GridRow, rate: str) -> str:
    """A rate in per cent with its deviation, or why there is none; a star where the row has a note."""
    mean, spread = getattr(row, rate), getattr(row, f"{rate}_sd", None)
    if mean is None:
        return row.note or "-"
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}") + ("*" if row.note else "")


def shown_cost(row: GridRow) -> str:
    """Seconds, and passes in thousands."""
    if row.seconds is None or row.passes is None:
        return "-"
    return f"{row.seconds:.1f} / {row.passes / 1000:.0f}"


def shown_difference(pair: PairedDifference) -> str:
    """Points, with their interval."""
    interval = "" if pair.low is None or pair.high is None else f" ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    return f"{100 * pair.difference:+.1f}{interval}"


def notes(found: GridResult) -> list[str]:
    """What the notes of the rows say, each once."""
    parts = {part for row in found.rows for part in row.note.split(", ") if part}
    return sorted(EXPLAINED.get(part, f"* {part}") for part in parts)


def write_grid(folder: Path, found: GridResult) -> None:
    """Write `grid.json`, `grid.csv`, `grid.tex`, `report.html` and the heat map below `figures`."""
    from untrigger.reports.figures import draw_grid

    found.save(folder)
    (folder / "grid.csv").write_text(csv_table(found), encoding="utf-8")
    (folder / "grid.tex").write_text(latex_table(found), encoding="utf-8")
    drawn = folder / "figures" / "grid.png"
    draw_grid(found, drawn)
    write_page(
        folder / "report.html",
        "grid",
        found=found,
        notes=notes(found),
        heat_map=Picture(drawn, "Attack success after each defence, in per cent: the darker the more is left"),
        shown_rate=shown_rate,
        shown_cost=shown_cost,
        shown_difference=shown_difference,
        config=json.dumps(found.config, indent=2),
        version=found.version,
    )


def csv_table(found: GridResult) -> str:
    """All rows with all their fields, a line each below their names; rates are fractions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(GridRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in found.rows)
    return text.getvalue()


NO_DEFENCES = ("none", "ideal")
"""What no defender would or could do: never the best in a paper's table."""

LATEX_RATES = {"ACC": "accuracy", "ASR": "asr", "RA": "robust", "DER": "der"}
"""Columns of each attack in a paper's table, in the order and by the names that papers use."""


def latex_table(found: GridResult) -> str:
    """A tabular for booktabs: a line per method, per attack the rates in per cent, the best of each column bold.

    The best is chosen among the defences that a defender could use: not `none`, not `ideal`. Attack success is starred
    where the row has a note; what the notes say stands in comments at the end.
    """
    width = len(LATEX_RATES)
    spans = [f"\\multicolumn{{{width}}}{{c}}{{{_escaped(attack)}}}" for attack in found.attacks]
    rules = [f"\\cmidrule(lr){{{2 + width * n}-{1 + width * (n + 1)}}}" for n in range(len(spans))]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * width * len(spans)}}}",
        "\\toprule",
        " & ".join(["", *spans]) + r" \\",
        " ".join(rules),
        " & ".join(["method", *(list(LATEX_RATES) * len(spans))]) + r" \\",
        "\\midrule",
    ]
    best = {(attack, rate): _best(found, attack, rate) for attack in found.attacks for rate in LATEX_RATES.values()}
    for method in found.methods:
        cells = [_escaped(method)]
        for attack in found.attacks:
            row = found.row(attack, method)
            cells += [_latex_cell(row, rate, best[attack, rate]) for rate in LATEX_RATES.values()]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(
        [*lines, "\\bottomrule", "\\end{tabular}", *(f"% {' '.join(note.split())}" for note in notes(found)), ""]
    )


def _best(found: GridResult, attack: str, rate: str) -> float | None:
    rows = (found.row(attack, method) for method in found.methods if method not in NO_DEFENCES)
    values = [value for row in rows if (value := getattr(row, rate)) is not None]
    return (min if rate == "asr" else max)(values, default=None)


def _latex_cell(row: GridRow, rate: str, best: float | None) -> str:
    value = getattr(row, rate)
    if value is None:
        return "--"
    star = r"$^\ast$" if row.note and rate == "asr" else ""
    is_best = value == best and row.method not in NO_DEFENCES
    return (f"\\textbf{{{100 * value:.1f}}}" if is_best else f"{100 * value:.1f}") + star


def _escaped(name: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in name)


_LATEX = {letter: f"\\{letter}" for letter in "_&%#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""What stands for letters that LaTeX takes as its own."""
