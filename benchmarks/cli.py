"""The benchmark commands."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def main() -> None:
    """Repeat a measurement and print a table."""


@main.command()
@click.argument("run_folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Generator seeds per stair.")
@click.option("--first-seed", default=100, show_default=True, help="The first of them; a run itself uses its own.")
@click.option("--alpha", type=float, help="Train with the paper's constraint, fixed_alpha, at this alpha.")
def stairs(run_folder: Path, seeds: int, first_seed: int, alpha: float | None) -> None:
    """Does each generator fill its stair? Trains the stairs of a finished run anew with other seeds."""
    from benchmarks.stairs import measure_stairs

    changes = {} if alpha is None else {"constraint": "fixed_alpha", "alpha": alpha}
    measure_stairs(run_folder, range(first_seed, first_seed + seeds), changes)
