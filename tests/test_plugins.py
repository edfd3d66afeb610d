"""Modules of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from untrigger.errors import UserError
from untrigger.plugins import PLUGINS, load_plugins, refuse_plugins


def test_the_modules_that_the_environment_names_are_imported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tmp_path / "noted"
    (tmp_path / "noting_plugin.py").write_text(f"open({str(noted)!r}, 'a').write('x')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, " noting_plugin, ")
    assert load_plugins() == load_plugins() == (tmp_path / "noting_plugin.py",)
    assert noted.read_text() == "x"


@pytest.mark.parametrize(("content", "reason"), [(None, "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError")])
def test_a_plugin_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "broken_plugin.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "broken_plugin")
    with pytest.raises(UserError, match=f"'broken_plugin', which UNTRIGGER_PLUGINS names: {reason}.*PYTHONPATH"):
        load_plugins()


def test_modules_that_would_not_reach_a_stage_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, " , ")
    refuse_plugins("run on this machine")
    monkeypatch.setenv(PLUGINS, "my_networks")
    with pytest.raises(UserError, match=r"UNTRIGGER_PLUGINS names my_networks.*run on this machine, or unset"):
        refuse_plugins("run on this machine")
