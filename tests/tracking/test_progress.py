"""Progress: the time left, and what a watching program reads."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from untrigger.tracking.progress import Reporter, duration, failures, read_events, unfinished_stages
from untrigger.tracking.watching import showing_work


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42 s"), (185, "3 min 05 s"), (4800, "1 h 20 min")])
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("untrigger.tracking.progress.time.monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_from_the_steps_done(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("training")
    reporter.begin("epoch")
    clock[0] = 10.0
    reporter.step("epoch", 1, 4, "loss 0.5")
    clock[0] = 30.0
    reporter.step("epoch", 3, 4)
    clock[0] = 40.0
    reporter.step("epoch", 4, 4)
    assert capsys.readouterr().out.splitlines() == [
        "training: epoch 1 of 4, loss 0.5 (30 s left)",
        "training: epoch 3 of 4 (10 s left)",
        "training: epoch 4 of 4",
    ]


def test_events_come_back_from_the_file_and_a_half_written_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv("UNTRIGGER_PROGRESS", str(path))
    Reporter("one").say("started")
    Reporter("two").say("started")
    Reporter("two").say("failed", "no space left")
    with path.open("a") as file:
        file.write('{"stage": "th')
    with path.open() as file:
        assert [(event.stage, event.kind) for event in read_events(file)] == [
            ("one", "started"),
            ("two", "started"),
            ("two", "failed"),
        ]
        with path.open("a") as more:
            more.write('ree", "kind": "started"}\n')
        assert [event.stage for event in read_events(file)] == ["three"]
    assert unfinished_stages(path) == ["one", "three"]
    assert [event.text for event in failures(path)] == ["no space left"]


def test_slow_work_is_told_of_before_a_tenth_of_it_is_done(clock: list[float]) -> None:
    lines = io.StringIO()
    with showing_work(Console(file=lines)) as on_work:
        for done, seconds in enumerate((0.0, 20.0, 45.0, 50.0, 130.0), 1):
            clock[0] = seconds
            on_work("epochs", done, 100)
    assert [line.split(" (")[0] for line in lines.getvalue().splitlines()] == ["epochs: 3 of 100", "epochs: 5 of 100"]
