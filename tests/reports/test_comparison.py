"""Runs side by side, as `untrigger compare` shows them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.results import finished, swept
from tests.support.timing import with_cpu_seconds
from untrigger.artifacts import read_json, write_json
from untrigger.cli import main
from untrigger.reports.comparison import compared, differing_settings
from untrigger.runs.reading import read_runs
from untrigger.settings.methods import FlowSettings


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    first = finished(tmp_path / "first", {"ensemble": [0.10, 0.12], "ideal": [0.02, 0.04]})
    second = finished(tmp_path / "second", {"ensemble": [0.30, 0.32], "ideal": [0.03, 0.05], "none": [0.99]}, seed=1)
    return first, second


def test_a_difference_is_marked_when_its_interval_leaves_out_zero(two: tuple[str, str]) -> None:
    runs = read_runs(two)
    first, second = compared(runs, "ensemble", "attack_success_rate")
    assert first is not None and first.difference is None and not first.differs
    assert second is not None and second.differs and second.difference == pytest.approx(0.2)
    _, close = compared(runs, "ideal", "attack_success_rate")
    assert close is not None and not close.differs, "0.01 apart, with an interval of 0.06 to either side"
    lacking, there = compared(runs, "none", "attack_success_rate")
    assert lacking is None and there is not None and there.difference is None


def test_sweeps_are_compared_over_the_triggers_that_all_of_them_have(tmp_path: Path) -> None:
    first = swept(tmp_path / "first", {"binary:3": 0.02, "binary:4": 0.04, "colour:0": 0.9})
    second = swept(tmp_path / "second", {"binary:9": 0.9, "binary:4": 0.24, "binary:3": 0.22}, seed=1)
    runs = read_runs([first, second])
    _, cell = compared(runs, "black-and-white: ensemble", "attack_success_rate")
    assert cell is not None and cell.mean == pytest.approx(0.23) and cell.std == pytest.approx(0.0141, abs=1e-4)
    assert cell.difference == pytest.approx(0.2) and cell.differs
    _, single = compared(runs, "black-and-white: single_trigger", "attack_success_rate")
    assert single is not None and single.difference == 0 and not single.differs
    assert not any(method.startswith("colour") for run in runs for method in run.rates)
    assert differing_settings(runs).keys() == {"seed", "triggers"}


def test_a_sweep_differs_where_all_its_triggers_do_however_far_they_are_apart(tmp_path: Path) -> None:
    first = swept(tmp_path / "first", {"binary:3": 0.02, "binary:4": 0.4, "binary:5": 0.8})
    second = swept(tmp_path / "second", {"binary:3": 0.04, "binary:4": 0.42, "binary:5": 0.83})
    _, cell = compared(read_runs([first, second]), "black-and-white: ensemble", "attack_success_rate")
    assert cell is not None and cell.differs and cell.std is not None and cell.std > 0.3


def test_two_triggers_that_differ_unequally_tell_too_little_to_be_marked(tmp_path: Path) -> None:
    first = swept(tmp_path / "first", {"binary:3": 0.02, "binary:4": 0.04})
    second = swept(tmp_path / "second", {"binary:3": 0.22, "binary:4": 0.34})
    _, cell = compared(read_runs([first, second]), "black-and-white: ensemble", "attack_success_rate")
    assert cell is not None and cell.difference == pytest.approx(0.25) and not cell.differs, (
        "0.05 is one standard error"
    )


def test_single_values_are_never_marked(tmp_path: Path) -> None:
    runs = read_runs([finished(tmp_path / name, {"ensemble": [rate]}) for name, rate in (("a", 0.1), ("b", 0.9))])
    for method in ("before", "ensemble"):
        _, cell = compared(runs, method, "attack_success_rate")
        assert cell is not None and cell.std is None and not cell.differs


def test_only_settings_that_differ_are_listed(two: tuple[str, str]) -> None:
    assert differing_settings(read_runs(two)) == {"seed": [0, 1]}


TELLING_MODULES = (
    "import sys; from untrigger.cli import main; main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
)


def _compared(*words: str) -> tuple[str, float]:
    """What a command says, and the seconds of a processor it takes."""
    return with_cpu_seconds(words, {**os.environ, "COLUMNS": "200"})


def test_the_command_prints_tables_and_writes_a_page_within_two_seconds(two: tuple[str, str], tmp_path: Path) -> None:
    compare = ("compare", *two, "--html", str(tmp_path / "page.html"))
    modules = _compared(sys.executable, "-c", TELLING_MODULES, *compare)[0].splitlines()[-1].split()
    assert "torch" not in modules, "it would take most of the time"
    told = [_compared(str(Path(sys.executable).with_name("untrigger")), *compare) for _ in range(3)]
    assert min(seconds for _, seconds in told) < 2
    output = told[0][0]
    assert "31.0 ± 1.4 (+20.0) *" in output and "4.0 ± 1.4 (+1.0)" in output
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.count('class="differs"') >= 2 and "http" not in page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["only one"], "give at least two runs"),
        (["swept", "one"], "swept is a sweep and one is not: compare sweeps with sweeps, or run by run"),
        (["swept", "elsewhere"], "swept, elsewhere have no trigger in common"),
        (["nowhere", "neither"], "nowhere holds no results.json: give the output folder of a finished run"),
    ],
)
def test_what_is_no_run_is_said_in_one_sentence(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "one", {"ensemble": [0.1]})
    swept(tmp_path / "swept", {"binary:3": 0.1})
    swept(tmp_path / "elsewhere", {"binary:4": 0.1})
    result = CliRunner().invoke(main, ["compare", *words])
    assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1


def test_a_setting_that_an_early_version_did_not_know_has_what_it_did_instead(tmp_path: Path) -> None:
    usual = FlowSettings().record()
    new = finished(tmp_path / "new", {"ensemble": [0.1]}, generator={"family": "mine"}, search_images="all", flow=usual)
    flows = finished(tmp_path / "flows", {"ensemble": [0.1]}, flow=usual)
    results = read_json(Path(new) / "results.json")
    del (
        results["attack"],
        results["config"]["attack"],
        results["config"]["flow"],
        results["config"]["generator"]["family"],
        results["config"]["search_images"],
    )
    write_json(tmp_path / "old" / "results.json", results)
    old = str(tmp_path / "old")
    assert not differing_settings(read_runs([old, new]))
    assert differing_settings(read_runs([old, flows])) == {
        "search_images": ["all", "other_classes"],
        "generator.family": ["mine", "flow"],
    }


def test_attacks_differ_by_their_name_and_by_settings_that_each_has(tmp_path: Path) -> None:
    patch = finished(tmp_path / "patch", {"ensemble": [0.1]})
    blended = finished(tmp_path / "blended", {"ensemble": [0.9]}, attack={"name": "blended"})
    assert differing_settings(read_runs([patch, blended])) == {
        "attack.name": ["patch", "blended"],
        "attack.place": ["random", None],
        "attack.ratio": [None, 0.2],
    }
