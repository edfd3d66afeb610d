"""The one walk over a folder, and what identifies what it finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from untrigger.errors import UserError
from untrigger.storage.files import digest_of, files_below


def written(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_links_are_followed_and_hidden_names_left_out(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "elsewhere", "b.png", "deep/c.png")
    data = written(tmp_path / "data", "a.png", ".DS_Store", ".git/config", "deep/.hidden")
    (data / "linked").symlink_to(elsewhere)
    (data / "b.png").symlink_to(elsewhere / "b.png")
    assert [path.relative_to(data).as_posix() for path in files_below(data)] == [
        "a.png",
        "b.png",
        "linked/b.png",
        "linked/deep/c.png",
    ]


def test_a_link_to_nothing_and_one_that_leads_back_are_named(tmp_path: Path) -> None:
    data = written(tmp_path / "data", "inside/a.png")
    (data / "inside" / "again").symlink_to(data)
    with pytest.raises(UserError, match="inside/again is a link to a folder that it lies in"):
        files_below(data)
    (data / "inside" / "again").unlink()
    (data / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone is a link that leads nowhere"):
        files_below(data)


def test_a_name_that_is_not_utf8_is_shown_in_escapes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"the name caf\\xe9 in .* is not UTF-8: rename it"):
        files_below(tmp_path)


def test_a_digest_depends_on_names_and_contents_and_on_nothing_else(tmp_path: Path) -> None:
    first = written(tmp_path / "first", "a", "b/c")
    second = written(tmp_path / "second", "b/c", "a")
    os.utime(second / "a", (0, 0))
    (tmp_path / "link").symlink_to(first)
    digests = {digest_of(root, files_below(root)) for root in (first, second, tmp_path / "link")}
    assert len(digests) == 1
    (second / "a").write_text("changed")
    (first / "a").rename(first / "other")
    digests |= {digest_of(root, files_below(root)) for root in (first, second)}
    assert len(digests) == 3
