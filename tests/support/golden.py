"""Golden numbers: what two tiny runs find, as it was last written down, and with which version.

`pytest tests/pipelines/local/test_run.py -k written_down --refresh-golden` writes them down anew: changed ones with a
new version only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from untrigger import __version__

REPOSITORY = Path(__file__).parents[2]
TOLERANCE = 0.02
"""How far a number may be from the one written down: another processor rounds in another way, and an image of 270 that
changes its class changes a rate by 0.004."""


@dataclass(frozen=True)
class Golden:
    """Numbers in `folder`, by name; a change of theirs needs a new `version`, with an entry in the `changelog`."""

    refresh: bool = False
    folder: Path = REPOSITORY / "tests" / "golden"
    version: str = __version__
    changelog: Path = REPOSITORY / "CHANGELOG.md"

    def check(self, name: str, found: Mapping[str, float]) -> None:
        """Compare `found` with what is written down under `name`, or write it down."""
        path = self.folder / f"{name}.json"
        content = json.loads(path.read_text()) if path.exists() else {"version": None, "numbers": {}}
        known: dict[str, float] = content["numbers"]
        changed = [
            f"{key} was {value:.4f}, is {found[key]:.4f}" if key in found else f"{key} was {value:.4f}, is gone"
            for key, value in known.items()
            if key not in found or not abs(found[key] - value) <= TOLERANCE
        ]
        told = f"{len(changed)} of {len(known)} golden numbers changed: " + "; ".join(changed[:5])
        if not self.refresh:
            assert not changed, f"{told}. If that is meant: raise the version, then add --refresh-golden"
            assert found.keys() == known.keys(), f"new: {found.keys() - known.keys()}; add --refresh-golden"
            return
        assert not changed or content["version"] != self.version, f"{told}. Raise the version {self.version} first"
        assert f"## [{self.version}]" in self.changelog.read_text(), f"{self.changelog} says nothing of {self.version}"
        if changed or found.keys() != known.keys():
            written = {"version": self.version, "numbers": dict(sorted(found.items()))}
            path.write_text(json.dumps(written, indent=2) + "\n")
