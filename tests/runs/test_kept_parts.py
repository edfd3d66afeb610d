"""Parts of long work are kept as long as all that they depend on is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from untrigger.plugins import PLUGINS
from untrigger.runs.kept_parts import kept_part


def test_a_part_is_made_anew_when_what_it_depends_on_or_a_module_of_the_user_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    module = tmp_path / "kept_parts_plugin.py"
    module.write_text("STRENGTH = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, module.stem)
    for told, count in (({"seed": 0}, 1), ({"seed": 0}, 1), ({"seed": 1}, 2)):
        kept_part(tmp_path / "part", told, made.append)
        assert len(made) == count
    module.write_text("STRENGTH = 2\n")
    kept_part(tmp_path / "part", {"seed": 1}, made.append)
    assert len(made) == 3
