"""What the pipeline of references found: the typed result."""

from __future__ import annotations

from untrigger.settings.base import Stored


class GatheredReferences(Stored):
    """How many references a pipeline trained, and their address in the store of its cluster, where it has one."""

    FILE = "gathered.json"

    count: int
    address: str | None = None
