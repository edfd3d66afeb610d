"""Which build of torch an image gets, and whether it got it.

torch_variant.py requirement cpu|cuda   prints what to ask pip for
torch_variant.py check cpu|cuda         fails when the other build was installed
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def requirement(variant: str, constraints: Path) -> str:
    """The exact version: `===` compares the local part too, which `==` ignores."""
    pinned = re.search(r"^torch==(\S+)$", constraints.read_text(), re.MULTILINE)
    if pinned is None:
        sys.exit(f"{constraints} does not pin torch")
    return f"torch==={pinned[1]}" + ("+cpu" if variant == "cpu" else "")


def check(variant: str) -> None:
    """End with an error when torch is not the build that was asked for."""
    import torch

    print(f"torch {torch.__version__}, torch.version.cuda = {torch.version.cuda}")
    if (torch.version.cuda is not None) != (variant == "cuda"):
        sys.exit(f"asked for the {variant} build of torch, got one with torch.version.cuda = {torch.version.cuda}")


if __name__ == "__main__":
    command, variant = sys.argv[1:3]
    if variant not in ("cpu", "cuda"):
        sys.exit(f"the build argument TORCH must be cpu or cuda, got {variant!r}")
    if command == "requirement":
        print(requirement(variant, Path("/opt/untrigger/constraints.txt")))
    else:
        check(variant)
