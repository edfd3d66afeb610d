"""Triggers of a finished run, to be taken along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from untrigger.artifacts import write_json, write_tensors
from untrigger.errors import UserError
from untrigger.fidelity import Judged, judged_samples
from untrigger.generators import level_of
from untrigger.judge import Judge
from untrigger.reports.figures import draw_samples
from untrigger.runs.finished import FinishedRun
from untrigger.seeding import derived_rng
from untrigger.triggers import Sampler

DRAWN_AT_ONCE = 500

LEAST_SHARE = 0.002
"""Share of the samples that must be valid: below it, few triggers would take very long."""

SHOWN = 400


@dataclass(frozen=True)
class ValidSamples:
    """Triggers that the judge lets pass, and the share of all that did."""

    judged: Judged
    share: float


def write_samples(run: FinishedRun, beta: float, count: int, seed: int, output: Path) -> ValidSamples:
    """Write `count` fresh triggers of one stair, each with F >= beta by the run's judge, into `output`.

    `triggers.safetensors` holds `triggers`, float (count, 3, th, tw), their `F`, and of a flow the `log_density` of
    each in nats, before any was refused (that of the valid ones is log(valid_share) less); `triggers.png` shows the
    first of them, and `samples.json` says how they came about. Raises UserError when there is no such stair, when
    hardly a sample is valid, or when `output` holds something.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} holds something already: choose another --output")
    generator = run.staircase.generator_of(beta)
    level = level_of(generator, beta)
    found = draw_valid(generator, level, run.judge, count, derived_rng(seed, "sample", beta))
    tensors = {"triggers": found.judged.triggers, "F": found.judged.strengths}
    if found.judged.log_density is not None:
        tensors["log_density"] = found.judged.log_density
    write_tensors(output / "triggers.safetensors", tensors)
    draw_samples(found.judged.triggers[:SHOWN].cpu(), beta, output / "triggers.png")
    write_json(output / "samples.json", {"beta": level, "count": count, "seed": seed, "valid_share": found.share})
    return found


def draw_valid(generator: Sampler, beta: float, judge: Judge, count: int, rng: torch.Generator) -> ValidSamples:
    """`count` fresh triggers with F >= beta; UserError when hardly a sample is valid."""
    parts: list[Judged] = []
    drawn = passed = 0
    at_once = min(DRAWN_AT_ONCE, 2 * count)
    while passed < count:
        parts.append(judged_samples(generator, judge, at_once, rng).valid(beta))
        drawn, passed = drawn + at_once, passed + len(parts[-1].triggers)
        if drawn >= DRAWN_AT_ONCE and passed < LEAST_SHARE * drawn:
            raise UserError(
                f"only {passed} of {drawn} samples reach F >= {beta}: choose another stair, or search longer"
            )
    densities = [part.log_density for part in parts if part.log_density is not None]
    judged = Judged(
        torch.cat([part.triggers for part in parts])[:count],
        torch.cat([part.strengths for part in parts])[:count],
        torch.cat(densities)[:count] if densities else None,
    )
    return ValidSamples(judged, passed / drawn)
