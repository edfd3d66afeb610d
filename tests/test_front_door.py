"""What `import untrigger` gives."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import untrigger


def imported_for_type_checkers() -> dict[str, str]:
    """The names that type checkers see, and the modules that they come from."""
    tree = ast.parse(Path(untrigger.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_all_is_sorted_and_is_what_type_checkers_see() -> None:
    assert untrigger.__all__ == sorted(imported_for_type_checkers())


@pytest.mark.parametrize("name", untrigger.__all__)
def test_a_name_is_the_one_that_type_checkers_see(name: str) -> None:
    home = sys.modules[getattr(untrigger, name).__module__]
    assert home.__name__ == imported_for_type_checkers()[name]
    assert getattr(untrigger, name) is getattr(home, name)
    assert name in dir(untrigger)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'untrigger' has no attribute 'detonate'"):
        untrigger.detonate  # noqa: B018


def test_importing_untrigger_imports_neither_torch_nor_its_own_modules() -> None:
    listed = "import sys, untrigger; print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'untrigger')])"
    answer = subprocess.run([sys.executable, "-c", listed], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "['untrigger']"


def test_a_submodule_stays_reachable_by_its_name() -> None:
    from untrigger import triggers

    assert triggers.read_trigger is untrigger.read_trigger
