"""Generator training: learn the triggers of one stair or several, F >= beta, and measure how well they are filled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from untrigger.classifiers import load_classifier
from untrigger.datasets.images import load_images
from untrigger.generators import StairCurves, save_generator, train_generators
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import GeneratorSettings
from untrigger.settings.plans import Betas
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.staircase import measure_stair


@stage("generator_training")
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    trained_generators: OutFolder,
    betas: Betas,
    generator: GeneratorSettings,
    target_class: int,
    trigger_size: tuple[int, int],
    seed: int,
) -> None:
    """Train the stairs of `betas` side by side.

    Writes into `beta-B/` the generator of each stair, its curves per epoch, and its measurement on fresh samples.
    """
    classifier = load_classifier(backdoored_classifier, device())
    data = load_images(defender_data).to(device())
    curves: list[list[dict[str, float]]] = [[] for _ in betas]
    with ExitStack() as runs:
        tracked = [
            runs.enter_context(log.run(f"generator beta={beta} seed={seed}", method="generator", beta=beta))
            for beta in betas
        ]
        log.reporter.begin("epoch")

        def on_epoch(epoch: int, metrics: list[dict[str, float]]) -> None:
            for run, curve, values in zip(tracked, curves, metrics, strict=True):
                run.metrics(values, epoch)
                curve.append(values)
            log.reporter.step("epoch", epoch, generator.epochs, _shown(betas, metrics))

        trained = train_generators(
            classifier,
            data.images,
            data.labels,
            target_class,
            trigger_size,
            generator,
            betas=betas,
            rngs=[derived_rng(seed, "generator", beta) for beta in betas],
            on_epoch=on_epoch,
        )
        for index, (beta, triggers) in enumerate(zip(betas, trained, strict=True)):
            measured = measure_stair(
                triggers,
                beta,
                classifier,
                data.images,
                data.labels,
                target_class,
                rng=derived_rng(seed, "stair", beta),
                on_progress=partial(log.reporter.step, f"beta {beta}: fresh sample"),
            )
            tracked[index].metrics(measured.model_dump(exclude={"F"}))
            folder = trained_generators / f"beta-{beta}"
            save_generator(triggers, beta, folder)
            StairCurves.of({"generator": curves[index]}).save(folder)
            measured.save(folder)


def _shown(stairs: Sequence[float], metrics: list[dict[str, float]]) -> str:
    return "; ".join(
        f"beta {beta}: F {values['F']:.3f}, valid share {values['valid_share']:.3f}, "
        f"mutual information {values['mutual_information']:.2f}"
        for beta, values in zip(stairs, metrics, strict=True)
    )
