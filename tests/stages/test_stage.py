"""What all stages have in common: reuse of finished work, and how failures are told."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest

from tests.support.files import picture
from untrigger.errors import UserError, UserNotice
from untrigger.stages.identities import STAGES, Resources, StageIdentity
from untrigger.stages.log import Log
from untrigger.stages.reuse import TriggerName, kept_outputs
from untrigger.stages.stage import InFolder, OutFolder, stage

calls: list[float] = []


@pytest.fixture(autouse=True)
def _these_are_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Resources(cpu="1", memory="1Gi", hours=1)
    monkeypatch.setitem(STAGES, "double", StageIdentity("double", "double", nothing, "double {factor}"))
    monkeypatch.setitem(STAGES, "look", StageIdentity("look", "look", nothing))
    monkeypatch.setitem(STAGES, "notice", StageIdentity("notice", "notice", nothing))


@stage("double")
def double(log: Log, *, source: InFolder, result: OutFolder, factor: float) -> None:
    calls.append(factor)
    if factor < 0:
        raise UserError(f"factor must not be negative, got {factor}")
    value = float((source / "value").read_text())
    (result / "value").write_text(str(factor * value))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "value").write_text("21")
    calls.clear()
    return folder


def result_of(folder: Path) -> str:
    return (folder / "value").read_text()


def test_finished_work_is_reused_unless_an_input_or_a_parameter_changed(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTRIGGER_STAGES", str(tmp_path / "stages"))
    for name, factor in (("a", 2.0), ("b", 2.0), ("c", 3.0)):
        double(source=str(source), result=str(tmp_path / name), factor=factor)
    assert calls == [2.0, 3.0]
    assert [result_of(tmp_path / name) for name in "abc"] == ["42.0", "42.0", "63.0"]
    (source / "value").write_text("1")
    double(source=source, result=tmp_path / "d", factor=2.0)
    assert calls == [2.0, 3.0, 2.0] and result_of(tmp_path / "d") == "2.0"
    kept = kept_outputs(tmp_path / "stages", "double")
    assert kept is not None and result_of(kept / "result") == "2.0"


def test_a_finished_stage_tells_what_memory_it_took(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double(source=source, result=tmp_path / "a", factor=2.0)
    told = re.search(r"double 2.0: finished with ([\d,]+) MB of memory at most", capsys.readouterr().out)
    assert told is not None and 10 < int(told[1].replace(",", "")) < 24_000


@stage("notice")
def noticing(log: Log, *, result: OutFolder) -> None:
    warnings.warn("it goes on, slower", UserNotice, stacklevel=1)
    warnings.warn("of no interest", DeprecationWarning, stacklevel=1)


def test_what_the_library_warns_the_user_of_stands_among_the_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(DeprecationWarning, match="of no interest"):
        noticing(result=tmp_path / "a")
    told = capsys.readouterr().out
    assert "notice: warning it goes on, slower" in told and "of no interest" not in told


def test_without_a_store_every_call_works_anew(tmp_path: Path, source: Path) -> None:
    for name in "ab":
        double(source=source, result=tmp_path / name, factor=2.0)
    assert calls == [2.0, 2.0]


def test_a_failed_stage_leaves_nothing_to_reuse_and_says_why(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNTRIGGER_STAGES", str(tmp_path / "stages"))
    with pytest.raises(SystemExit) as ended:
        double(source=source, result=tmp_path / "a", factor=-1.0)
    assert ended.value.code == 2
    assert "double -1.0: failed factor must not be negative, got -1.0" in capsys.readouterr().out
    assert kept_outputs(tmp_path / "stages", "double") is None
    (source / "value").write_text("not a\nnumber")
    with pytest.raises(ValueError, match="could not convert"):
        double(source=source, result=tmp_path / "a", factor=1.0)
    assert "double 1.0: failed ValueError: could not convert string to float" in capsys.readouterr().out


def test_the_last_used_outputs_are_known_whatever_the_clock_says(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTRIGGER_STAGES", str(tmp_path / "stages"))
    for name, factor in (("a", 2.0), ("b", 3.0), ("c", 2.0)):
        double(source=source, result=tmp_path / name, factor=factor)
        for mark in (tmp_path / "stages").glob("*/stage.json"):
            os.utime(mark, (int(factor), int(factor)))
    assert calls == [2.0, 3.0]
    kept = kept_outputs(tmp_path / "stages", "double")
    assert kept is not None and result_of(kept / "result") == "42.0"


@stage("look")
def look(log: Log, *, result: OutFolder, trigger: TriggerName) -> None:
    calls.append(0)


def test_a_file_by_another_name_is_no_reason_to_work_anew_and_a_changed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTRIGGER_STAGES", str(tmp_path / "stages"))
    monkeypatch.chdir(tmp_path)
    calls.clear()
    Path("patch.png").write_bytes(picture(1))
    for name in ("patch.png", "./patch.png", str(tmp_path / "patch.png")):
        look(result=tmp_path / "out", trigger=name)
    assert len(calls) == 1
    Path("patch.png").write_bytes(picture(2))
    look(result=tmp_path / "out", trigger="patch.png")
    assert len(calls) == 2
