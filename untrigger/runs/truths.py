"""The truth about the stairs of a finished run, and how close its generators come to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from untrigger.artifacts import write_tensors
from untrigger.fidelity import Fidelity, measure_fidelity
from untrigger.judge import Judge
from untrigger.networks.devices import device
from untrigger.reports.pages import write_report
from untrigger.reports.results import Results, RunTruth, StairTruth
from untrigger.runs.finished import FinishedRun
from untrigger.runs.output_folder import TRUTH_SAMPLES
from untrigger.seeding import derived_rng
from untrigger.settings.methods import TruthSettings
from untrigger.settings.plans import method_of
from untrigger.settings.stairs import TOP, beta_name
from untrigger.truth import Truth, find_truth

Say = Callable[[str], None]


def add_truth(run: FinishedRun, settings: TruthSettings, say: Say, samples: int = 5000) -> RunTruth:
    """Find the truth about {F >= beta} for each stair, measure generated `samples` against it, draw the report anew.

    The search is kept in `truth/` after every level, and goes on from there. Writes `truth.json`, the true samples into
    `truth.safetensors`, one tensor `beta=B`, float (n, 3, th, tw), per stair, and `report.html`. `say` gets lines of
    progress. Stairs that are out of reach are left out, and said; raises OutOfReach where all are.
    """
    with run.folder.locked():
        judge, staircase, seed = run.judge, run.staircase, run.config.seed
        truths = _truths(run, judge, staircase.levels, settings, say)
        stairs, true_samples = [], {}
        for generator, beta, level in zip(staircase.generators, staircase.betas, staircase.levels, strict=True):
            if level not in truths:
                say(f"beta {beta_name(beta)}: no trigger with F >= {level} was found in every repeat: it is left out")
                continue
            found = measure_fidelity(
                generator,
                level,
                judge,
                truth=truths[level],
                samples=samples,
                rng=derived_rng(seed, "fidelity", beta),
                on_progress=partial(_tell_of_samples, say, beta),
            )
            stairs.append(_stair(beta, truths[level], found))
            true_samples[method_of(beta)] = truths[level].samples.view(-1, 3, *judge.size)
        known = RunTruth(walkers=settings.walkers, repeats=settings.repeats, images=len(judge), stairs=tuple(stairs))
        write_tensors(run.folder.path / TRUTH_SAMPLES, true_samples)
        known.save(run.folder.path)
        _draw_report(run, known)
    return known


def _truths(
    run: FinishedRun, judge: Judge, levels: Sequence[float], settings: TruthSettings, say: Say
) -> dict[float, Truth]:
    def on_level(repeat: int, level: float, log_volume: float) -> None:
        say(f"truth: repeat {repeat} of {settings.repeats}, F >= {level:.3f}, log-volume {log_volume:.1f}")

    truths = find_truth(
        judge,
        judge.dimensions,
        sorted(set(levels)),
        settings,
        rngs=[derived_rng(run.config.seed, "truth", repeat) for repeat in range(settings.repeats)],
        device=device(),
        folder=run.folder.truth_state,
        origin=run.origin,
        on_level=on_level,
    )
    return {truth.beta: truth for truth in truths}


def _tell_of_samples(say: Say, beta: float, done: int, total: int) -> None:
    if done % 1000 == 0 or done == total:
        say(f"beta {beta_name(beta)}: generated sample {done} of {total}")


def _stair(beta: float, truth: Truth, found: Fidelity) -> StairTruth:
    return StairTruth.of(
        {
            **asdict(found),
            "beta": beta,
            "level": truth.beta if beta == TOP else None,
            "log_volume": truth.log_volume,
            "log_volume_error95": truth.error95,
            "log_volumes": truth.log_volumes,
        }
    )


def _draw_report(run: FinishedRun, known: RunTruth) -> None:
    folder = run.folder.path
    write_report(folder / "report.html", Results.load(folder), known)
