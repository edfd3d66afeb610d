"""What a command sets right before it begins, on machines as they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests

from tests.support.answering import answering
from untrigger.cli.surroundings import spare_loopback


@pytest.mark.parametrize(
    ("variable", "spared"), [("NO_PROXY", ""), ("NO_PROXY", "a.example"), ("no_proxy", "a.example")]
)
def test_a_server_on_this_machine_is_reached_without_the_proxy(
    variable: str, spared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NO_PROXY": "", "no_proxy": "", variable: spared, "http_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    spare_loopback()
    assert os.environ["NO_PROXY"].startswith(spared or "localhost")
    with answering(200) as address:
        assert requests.get(address, timeout=5).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "POSIX"],
)
def test_output_that_takes_ascii_only_gets_stand_ins(changes: dict[str, str]) -> None:
    shown = (
        "from untrigger.cli.surroundings import write_what_can_be_written\n"
        "write_what_can_be_written()\n"
        "print('5 \\xb1 1 of L\\xe4ufe')\n"
    )
    ended = subprocess.run([sys.executable, "-c", shown], env={**os.environ, **changes}, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout == "5 +- 1 of L\\xe4ufe\n"
