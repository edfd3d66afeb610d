"""Grids of attacks by defences: what is made of the cells, and how it is shown."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.results import cell, gridded, planted
from untrigger.reports.grid_tables import csv_table, grid_tables, latex_table, write_grid
from untrigger.reports.grids import NOT_APPLICABLE, PATCHES_ONLY, GridResult, grid_result, joined_grids

CONFIG: dict[str, Any] = {
    "dataset": "digits",
    "attacks": ["patch", "warped"],
    "methods": ["none", "ensemble", "ft_sam"],
    "seeds": 3,
}
LEFT = {"none": (0.99, 0.98, 1.0), "ensemble": (0.02, 0.04, 0.03), "ft_sam": (0.05, 0.10, 0.03)}


@pytest.fixture
def found() -> GridResult:
    """Patches as in LEFT; of the warped attack the second seed was not planted, and one method was not run at all."""
    cells = [cell("patch", method, seed, rate) for method, each in LEFT.items() for seed, rate in enumerate(each)]
    cells += [cell("warped", method, seed, 0.5) for method in ("none", "ensemble") for seed in (0, 2)]
    backdoors = [planted("patch", seed) for seed in range(3)]
    backdoors += [planted("warped", 0), planted("warped", 1, success=0.89), planted("warped", 2)]
    notes = {("warped", "ensemble"): PATCHES_ONLY, ("warped", "ft_sam"): NOT_APPLICABLE}
    return grid_result(CONFIG, "small_resnet", backdoors, cells, notes)


@pytest.mark.parametrize(
    ("success", "accuracy", "took"), [(0.9, 0.92, True), (0.89, 0.95, False), (1.0, 0.919, False), (0.95, 0.97, True)]
)
def test_a_backdoor_took_where_it_succeeds_and_costs_little_accuracy(
    success: float, accuracy: float, took: bool
) -> None:
    assert planted("patch", 0, success, accuracy).took is took


def test_a_row_holds_means_and_deviations_over_the_seeds(found: GridResult) -> None:
    row = found.row("patch", "ft_sam")
    assert (row.seeds, row.note) == (3, "")
    assert [row.asr, row.asr_sd] == pytest.approx([0.06, 0.036056], abs=1e-5)
    assert [row.accuracy, row.accuracy_sd, row.robust] == pytest.approx([0.92, 0, 0.9])
    assert row.der == pytest.approx((0.99 - 0.06 - 0.01 + 1) / 2)
    assert [row.seconds, row.passes] == pytest.approx([1.5, 2001])
    assert found.seconds == pytest.approx(6 * 4 + 13 * 1.5)


def test_what_was_not_planted_is_said_and_left_out(found: GridResult) -> None:
    assert found.row("warped", "ensemble").note == "1 of 3 not planted, patches only"
    assert found.row("warped", "none").seeds == 2
    assert (found.row("warped", "ft_sam").asr, found.row("warped", "ft_sam").note) == (None, "not applicable")
    nothing = grid_result({**CONFIG, "attacks": ["patch"]}, "x", [planted("patch", 0, accuracy=0.9)], [], {})
    assert {(row.asr, row.note) for row in nothing.rows} == {(None, "not planted")} and not nothing.paired


def test_differences_are_paired_by_seed_and_their_interval_is_students(found: GridResult) -> None:
    pair = next(each for each in found.paired if (each.attack, each.b) == ("patch", "ft_sam"))
    # Differences -0.03, -0.06, 0: mean -0.03, deviation 0.03; t(2) is 4.3027.
    assert (pair.a, pair.n) == ("ensemble", 3)
    assert [pair.difference, pair.low, pair.high] == pytest.approx([-0.03, -0.104524, 0.044524], abs=1e-5)
    assert {(each.attack, each.b) for each in found.paired} == {
        ("patch", "none"),
        ("patch", "ft_sam"),
        ("warped", "none"),
    }


def test_names_are_escaped_for_latex() -> None:
    told = {**CONFIG, "attacks": ["a&b#1"], "methods": ["none", "prune 50%", "x_1^2~{y}\\z"]}
    cells = [cell("a&b#1", method, 0, 0.1) for method in told["methods"]]
    table = latex_table(grid_result(told, "x", [planted("a&b#1", 0)], cells, {}))
    assert r"{a\&b\#1}" in table and r"prune 50\% & " in table
    assert r"x\_1\textasciicircum{}2\textasciitilde{}\{y\}\textbackslash{}z & " in table


def test_one_seed_has_no_spread_and_no_interval() -> None:
    cells = [cell("patch", method, 0, each[0]) for method, each in LEFT.items()]
    found = grid_result({**CONFIG, "attacks": ["patch"]}, "x", [planted("patch", 0)], cells, {})
    assert found.row("patch", "ft_sam").asr_sd is None
    assert {(each.low, each.high) for each in found.paired} == {(None, None)}
    assert GridResult.of(found.model_dump()) == found


def test_the_terminal_shows_rates_cost_and_differences(found: GridResult) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    for table in grid_tables(found):
        console.print(table)
    shown = console.export_text()
    assert "6.0 ± 3.6" in shown and "50.0 ± 0.0*" in shown and "not applicable" in shown
    assert "1.5 / 2" in shown and "-3.0 (-10.5 to +4.5)" in shown and "* patches only" in shown


def test_a_grid_in_parts_is_the_grid_of_all_their_attacks() -> None:
    parts = [gridded({**CONFIG, "attacks": [attack]}) for attack in CONFIG["attacks"]]
    assert joined_grids(parts) == gridded(CONFIG)


def test_the_spreadsheet_holds_every_row(found: GridResult) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(found))))
    assert len(rows) == 6
    assert (rows[2]["attack"], rows[2]["method"], rows[2]["seeds"]) == ("patch", "ft_sam", "3")
    assert float(rows[2]["asr"]) == pytest.approx(0.06) and rows[5]["asr"] == ""


def test_the_papers_table_has_a_line_per_method_and_the_best_defence_in_bold(found: GridResult) -> None:
    lines = latex_table(found).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrr}" and lines[-4] == r"\end{tabular}"
    assert lines[-3:-1] == [
        "% * 1 of 3 not planted",
        "% * patches only: the search is for a patch, which this trigger is not",
    ]
    assert r"\multicolumn{4}{c}{patch} & \multicolumn{4}{c}{warped}" in lines[2]
    ensemble = next(line for line in lines if line.startswith("ensemble"))
    assert r"\textbf{3.0} &" in ensemble and r"\textbf{50.0}$^\ast$ &" in ensemble
    assert not any("textbf" in line for line in lines if line.startswith("none"))
    other = next(line for line in lines if line.startswith(r"ft\_sam"))
    assert " & 6.0 & " in other and other.endswith(r"-- & -- & -- & -- \\")


def test_the_page_holds_the_heat_map_and_all_tables(found: GridResult, tmp_path: Path) -> None:
    write_grid(tmp_path, found)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "http://" not in page
    for name in ("success", "accuracy", "robust", "rating", "cost", "paired", "planted"):
        assert f'id="{name}"' in page
    assert "-3.0 (-10.5 to +4.5)" in page and "50.0 ± 0.0*" in page
    assert GridResult.load(tmp_path) == found
