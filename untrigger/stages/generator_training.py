"""Generator training: learn the triggers of one stair or several, F >= beta, and measure how well they are filled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from untrigger.classifiers import Classifier, load_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.fidelity import Judged, fidelity_of, handed_on, judged_samples
from untrigger.flow_training import OnFlowStep, train_flows
from untrigger.flows import FlowGenerator
from untrigger.generators import AnyGenerator, OnStairEpoch, StairCurves, level_of, save_generator, train_generators
from untrigger.judge import Judge, judge_of_run
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import FlowSettings, GeneratorSettings, SearchImages
from untrigger.settings.plans import Betas
from untrigger.settings.stairs import TOP, beta_name
from untrigger.snapshots import Snapshot
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.staircase import StairMeasurement, measure_stair, save_valid
from untrigger.tracking.records import TrackedRun
from untrigger.trigger_parts import find_parts

STEPS_PER_POINT = 10
"""Of the curves of a flow, whose steps are many and short."""

SHOWN = ("F", "valid_share", "mutual_information", "entropy")
"""Of the metrics of a stair, those that stand in progress lines."""


@stage("generator_training")
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    trained_generators: OutFolder,
    betas: Betas,
    generator: GeneratorSettings,
    flow: FlowSettings,
    target_class: int,
    search_images: SearchImages,
    trigger_size: tuple[int, int],
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Train the stairs of `betas` side by side, by the settings `flow` where that is the generator's family.

    Writes into `beta-B/` the generator of each stair, its curves per epoch or step, its measurement on fresh samples,
    and, of a flow, those of the fresh samples that are valid.
    """
    classifier = load_classifier(backdoored_classifier, device())
    data = load_images(defender_data).to(device()).for_search(target_class, search_images)
    judge = judge_of_run(seed, classifier, data.images, target_class, trigger_size)
    search = _Search(classifier, data, judge, betas, generator, flow, seed)
    with ExitStack() as runs:
        tracked = [
            runs.enter_context(log.run(f"generator beta={beta_name(beta)} seed={seed}", method="generator", beta=beta))
            for beta in betas
        ]
        course = _Course(log, betas, tracked)
        trained: Sequence[AnyGenerator]
        if generator.family == "flow":
            trained = search.flows(course.on_step(flow.steps), course.snapshot(snapshots), log)
        else:
            trained = search.mine(course.on_epoch(generator.epochs), course.snapshot(snapshots))
        for run, curve, beta, triggers in zip(tracked, course.curves, betas, trained, strict=True):
            folder = trained_generators / f"beta-{beta}"
            measured, judged = search.measured(triggers, beta, log)
            run.metrics(measured.model_dump(exclude={"F", "judged_entropy_estimator"}))
            run.parameters({"judged_entropy_estimator": measured.judged_entropy_estimator})
            if isinstance(triggers, FlowGenerator):
                save_valid(handed_on(judged, level_of(triggers, beta)).triggers, folder)
            save_generator(triggers, beta, folder)
            StairCurves.of({"generator": curve}).save(folder)
            measured.save(folder)


@dataclass(frozen=True)
class _Search:
    """Where triggers are searched for, for which stairs, and how."""

    classifier: Classifier
    data: ImageData
    judge: Judge
    betas: Sequence[float]
    generator: GeneratorSettings
    flow: FlowSettings
    seed: int

    def flows(self, on_step: OnFlowStep, snapshot: Snapshot, log: Log) -> list[FlowGenerator]:
        rngs = [derived_rng(self.seed, "flow", beta) for beta in self.betas]
        on_progress = log.every_tenth("search for parts: step")
        parts = find_parts(self.judge, rng=derived_rng(self.seed, "parts"), on_progress=on_progress)
        return train_flows(
            self.judge, self.betas, self.flow, rngs=rngs, parts=parts, on_step=on_step, snapshot=snapshot
        )

    def mine(self, on_epoch: OnStairEpoch, snapshot: Snapshot) -> Sequence[AnyGenerator]:
        return train_generators(
            self.classifier,
            self.data.images,
            self.data.labels,
            self.judge.target_class,
            self.judge.size,
            self.generator,
            betas=self.betas,
            rngs=[derived_rng(self.seed, "generator", beta) for beta in self.betas],
            on_epoch=on_epoch,
            snapshot=snapshot,
        )

    def measured(self, triggers: AnyGenerator, beta: float, log: Log) -> tuple[StairMeasurement, Judged]:
        """What the stair is like, and those of its samples that the judge has seen."""
        level = level_of(triggers, beta)
        measured = measure_stair(
            triggers,
            level,
            self.classifier,
            self.data.images,
            self.data.labels,
            self.judge.target_class,
            settings=self.generator,
            rng=derived_rng(self.seed, "stair", beta),
            on_progress=partial(log.reporter.step, f"beta {beta_name(beta)}: fresh sample"),
        )
        rng = derived_rng(self.seed, "judged", beta)
        on_progress = partial(log.reporter.step, f"beta {beta_name(beta)}: judged")
        judged = judged_samples(triggers, self.judge, self.generator.fresh_samples, rng, on_progress)
        found = fidelity_of(triggers, judged, level)
        fields = {
            "judged_valid_share": found.valid,
            "judged_F": found.mean_f,
            "judged_entropy": found.entropy,
            "judged_entropy_estimator": found.estimator,
            "level": level if beta == TOP else None,
            "parts": len(triggers.parts) if isinstance(triggers, FlowGenerator) else None,
        }
        return measured.model_copy(update=fields), judged


class _Course:
    """How the training goes: told to a person, tracked, and kept as one curve per stair."""

    def __init__(self, log: Log, betas: Sequence[float], tracked: Sequence[TrackedRun]) -> None:
        self.log, self.betas, self.tracked = log, betas, tracked
        self.curves: list[list[dict[str, float]]] = [[] for _ in betas]
        self.noted: list[tuple[int, dict[str, float] | None, list[dict[str, float]]]] = []

    def on_epoch(self, epochs: int) -> OnStairEpoch:
        self.log.reporter.begin("epoch")

        def on_epoch(epoch: int, metrics: list[dict[str, float]]) -> None:
            self._note(epoch, metrics)
            self.log.reporter.step("epoch", epoch, epochs, _shown(self.betas, metrics))

        return on_epoch

    def on_step(self, steps: int) -> OnFlowStep:
        self.log.reporter.begin("step")

        def on_step(step: int, metrics: list[dict[str, float]]) -> None:
            if step % STEPS_PER_POINT == 0 or step == steps:
                self._note(step, metrics, {"step": step})
                self.log.reporter.step("step", step, steps, _shown(self.betas, metrics))

        return on_step

    def snapshot(self, snapshots: Snapshots) -> Snapshot:
        """Of all stairs, with what was noted of each."""

        def recall(kept: list[list[Any]]) -> None:
            for number, place, metrics in kept:
                self._note(number, metrics, place)

        return snapshots.of("training", lambda: list(self.noted), recall)

    def _note(self, number: int, metrics: list[dict[str, float]], place: dict[str, float] | None = None) -> None:
        self.noted.append((number, place, metrics))
        for run, curve, values in zip(self.tracked, self.curves, metrics, strict=True):
            run.metrics(values, number)
            curve.append({**(place or {}), **values})


def _shown(stairs: Sequence[float], metrics: list[dict[str, float]]) -> str:
    return "; ".join(
        f"beta {beta_name(beta)}: "
        + ", ".join(f"{name.replace('_', ' ')} {values[name]:.3f}" for name in SHOWN if name in values)
        for beta, values in zip(stairs, metrics, strict=True)
    )
