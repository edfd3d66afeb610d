"""The stages' processes, as `kfp.local` asks for them, from a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from untrigger.pipelines.local.processes import StageProcesses, stage_processes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes() -> Iterator[StageProcesses]:
    with stage_processes() as started:
        yield started


Run = Callable[[str], int]


@pytest.fixture
def run(processes: StageProcesses, tmp_path: Path) -> Iterator[Run]:
    """Executes the body of a component called `work` in a process of its own."""
    processes.ended_badly.clear()
    # A folder each, as `kfp.local` has it: Python would take a program of the same size and second for the one before.
    yield lambda body: processes.run(command(body, Path(tempfile.mkdtemp(dir=tmp_path))))


def command(body: str, folder: Path) -> list[str]:
    """What a compiled lightweight component executes."""
    program = "import os, sys\n\ndef work():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    executor_input = {"inputs": {}, "outputs": {"outputFile": str(folder / "task" / "executor_output.json")}}
    words = ["--executor_input", json.dumps(executor_input), "--function_to_execute", "work"]
    return ["sh", "-ec", "a script that starts KFP's executor", program, *words]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("told ")]
    return lines[-1].removeprefix("told ")


def gone(pid: int) -> bool:
    """Whether a process has ended, or waits only for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_every_stage_is_a_process_of_its_own_that_has_the_imports_done(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "print('told', os.getpid(), 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    told = [(run(body), *printed(capsys).split()) for _ in range(2)]
    assert [words[0] for words in told] == [0, 0] and all(words[2:] == ("True", "True") for words in told)
    assert len({words[1] for words in told} | {str(os.getpid())}) == 3


def test_every_stage_starts_threads_of_its_own_of_which_the_server_has_none(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "import torch\ntorch.set_num_threads({0})\nbefore = len(os.listdir('/proc/self/task'))\n"
    body += "torch.ones(10**7).exp_()\nprint('told', len(os.listdir('/proc/self/task')) - before)"
    for threads in (3, 2, 1):
        assert run(body.format(threads)) == 0 and printed(capsys) == str(threads - 1)


def test_the_memory_that_a_stage_tells_is_its_own(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    body = (
        "from untrigger.stages.stage import _peak_memory\nheld = b'1' * {0}\nprint('told', _peak_memory().split()[0])"
    )
    told = []
    for size in (500_000_000, 1):
        assert run(body.format(size)) == 0
        told.append(int(printed(capsys).replace(",", "")))
    assert told[0] - told[1] == pytest.approx(500, abs=20)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("sys.exit(3)", 3, "ended with status 3"),
        ("raise OSError('no luck')", 1, "ended with status 1"),
        ("os.kill(os.getpid(), 9)", -9, "was killed by SIGKILL"),
        ("import ctypes\nctypes.string_at(0)", -11, "was killed by SIGSEGV"),
        ("import statistic", 1, "ended with status 1"),
    ],
)
def test_a_stage_that_dies_before_its_first_word_is_quoted_with_its_status_or_signal(
    processes: StageProcesses, run: Run, body: str, status: int, reason: str
) -> None:
    assert run("print('the last word', flush=True)\n" + body) == status
    (end,) = processes.ended_badly
    assert (end.stage, end.exit_code, end.reason) == ("work", status, f"the process of work {reason}")
    assert "the last word" in end.last_lines
    assert status != 1 or "Error" in end.last_lines[-1]


def test_a_stage_has_the_environment_of_the_moment_and_prints_any_text(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_MOMENT", "käfer \udcff")
    assert run("print('told', os.environ['OF_THE_MOMENT'])") == 0
    assert printed(capsys) == "käfer \\udcff"


def test_neither_the_working_directory_nor_python_variables_say_what_a_stage_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "My Projects"
    folder.mkdir()
    for name in ("statistics", "kfp", "torch", "json"):
        (folder / f"{name}.py").write_text("raise SystemExit('usage: my own script')\n")
    monkeypatch.chdir(folder)
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("HOME", "/no/such/home")
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    with stage_processes() as processes:
        assert processes.run(command("import statistics\nprint('told', statistics.mean([1, 3]))", tmp_path)) == 0
    assert printed(capsys) == "2"


def test_no_stage_outlives_the_block_and_none_starts_after_it_was_stopped(tmp_path: Path) -> None:
    with stage_processes() as processes:
        body = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nimport time\ntime.sleep(600)"
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(processes.run(command(body, tmp_path))))
        thread.start()
        pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        processes.stop()
        thread.join(timeout=20)
        assert statuses == [-signal.SIGKILL]
        assert processes.run(command("pass", tmp_path)) == -signal.SIGKILL
    assert gone(pid)


@pytest.mark.parametrize("victim", ["run", "server"])
def test_a_killed_run_or_server_leaves_no_orphan(tmp_path: Path, victim: str) -> None:
    body = f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getppid()}} {{os.getpid()}} ')\n"
    body += "import time\ntime.sleep(600)"
    script = (
        "from untrigger.pipelines.local.processes import stage_processes\n"
        f"with stage_processes() as processes:\n    processes.run({command(body, tmp_path)!r})\n"
        "    print(processes.ended_badly[0].reason)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = tmp_path / "pids"
    server, stage = map(
        int, wait_for(lambda: pids.exists() and pids.read_text().endswith(" ") and pids.read_text()).split()
    )
    os.kill(process.pid if victim == "run" else server, signal.SIGKILL)
    told, _ = process.communicate(timeout=60)
    assert victim == "run" or "the server of the stages' processes was killed by SIGKILL" in told
    wait_for(lambda: gone(stage) and gone(server), seconds=20)
