"""Images by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from untrigger.artifacts import write_json
from untrigger.errors import UserError
from untrigger.pipelines.images import images_in, read_pins, with_pins

DIGEST = "sha256:" + "a" * 64
DOCUMENT = {"containers": [{"image": "untrigger/staircase:1"}, {"image": f"other@{DIGEST}"}], "image": {"name": "x"}}


def test_pins_replace_images_by_name_and_leave_the_rest(tmp_path: Path) -> None:
    reference = f"registry.example/untrigger/staircase@{DIGEST}"
    write_json(tmp_path / "images.json", {"images": {"untrigger/staircase:1": reference}})
    pinned = with_pins(DOCUMENT, read_pins(tmp_path / "images.json"))
    assert images_in(pinned) == {reference, f"other@{DIGEST}"}
    assert pinned["image"] == {"name": "x"}


def test_a_pin_without_a_digest_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "images.json", {"images": {"untrigger/staircase:1": "untrigger/staircase:latest"}})
    with pytest.raises(UserError, match="no digest"):
        read_pins(tmp_path / "images.json")
