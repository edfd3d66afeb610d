"""Lists of triggers: names, ranges, patterns and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.configs import tiny_sweep
from untrigger.errors import UserError
from untrigger.settings.trigger_names import expanded_triggers

PLAIN = st.sampled_from(["checkerboard", "patch.png", "s3://bucket/triggers/1", "binary:3", "colour:12"])
RANGES = st.builds("{}:{}-{}".format, st.sampled_from(["binary", "colour"]), *[st.integers(0, 60)] * 2)
ANYTHING = st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"]), max_size=12)
NAMES = PLAIN | RANGES | ANYTHING | st.just("binary") | st.just("colour:0-99999999999")
LISTS = ("first.txt", "second.txt")
LINES = st.lists(NAMES | st.just("") | st.sampled_from(LISTS), max_size=4).map(
    lambda lines: "\n".join(lines).encode("utf-8", "replace")
)
FILES = st.dictionaries(st.sampled_from(LISTS), LINES | st.binary(max_size=20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


def test_names_stand_for_ranges_all_patterns_and_the_lines_of_a_file(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("checkerboard\n\ncolour:7-8\n")
    expanded = tiny_sweep(triggers=("binary:4-5", str(listed), "patch.png")).triggers
    assert expanded == ("binary:4", "binary:5", "checkerboard", "colour:7", "colour:8", "patch.png")
    assert len(tiny_sweep(triggers=("binary",)).triggers) == 51


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"triggers": ()}, "at least one trigger"),
        ({"triggers": ("binary:1", "binary:0-2")}, "binary:1 more than once"),
        ({"triggers": ("binary:5-2",)}, "low to high"),
        ({"triggers": ("missing.txt",)}, "cannot read the list of triggers missing.txt"),
        ({"triggers": ("binary:1",), "panels": ("binary:2",)}, "panels must be among"),
    ],
)
def test_a_list_of_triggers_that_makes_no_sweep_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        tiny_sweep(**changes)


@example(names=["first.txt"], files={"first.txt": b"second.txt", "second.txt": b"first.txt"})
@given(names=st.lists(NAMES | st.sampled_from(LISTS), max_size=4), files=FILES)
def test_any_list_gives_triggers_that_stand_for_themselves_or_is_refused_in_one_sentence(
    names: list[str], files: dict[str, bytes], folder: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in LISTS:
            Path(name).unlink(missing_ok=True)
        for name, content in files.items():
            Path(name).write_bytes(content)
        try:
            triggers = expanded_triggers(tuple(names))
        except (UserError, ValueError) as error:
            assert type(error) in (UserError, ValueError) and len(str(error).splitlines()) == 1
        else:
            assert triggers and len(set(triggers)) == len(triggers)
            assert expanded_triggers(triggers) == triggers


@given(kind=st.sampled_from(["binary", "colour"]), first=st.integers(0, 300), count=st.integers(1, 100))
def test_a_range_stands_for_each_of_its_numbers(kind: str, first: int, count: int) -> None:
    numbers = [f"{kind}:{number}" for number in range(first, first + count)]
    assert expanded_triggers((f"{kind}:{first}-{first + count - 1}",)) == tuple(numbers)
