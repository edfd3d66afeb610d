"""Generator training: learn the triggers of one stair, F >= beta, and measure how well the stair is filled."""

from __future__ import annotations

from typing import Any

from untrigger.artifacts import write_json
from untrigger.classifiers import load_classifier
from untrigger.datasets import load_images
from untrigger.generators import save_generator, train_generator
from untrigger.seeding import derived_generator
from untrigger.settings import GeneratorSettings
from untrigger.stage import InFolder, Log, OutFolder, device, stage
from untrigger.staircase import measure_stair


@stage("generator beta={beta} seed={seed}", fan_out=True)
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    trained_generator: OutFolder,
    beta: float,
    generator: dict[str, Any],
    target_class: int,
    trigger_size: list[int],
    seed: int,
) -> None:
    """Write the generator of the stair `beta`, its curves per epoch, and its measurement on fresh samples."""
    settings = GeneratorSettings.of(generator)
    classifier = load_classifier(backdoored_classifier, device())
    data = load_images(defender_data).to(device())
    curves: list[dict[str, float]] = []
    with log.run(method="generator") as tracked:
        report = log.epochs(tracked, settings.epochs)

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            curves.append(metrics)
            report(epoch, metrics)

        triggers = train_generator(
            classifier,
            data.images,
            data.labels,
            beta,
            target_class,
            (int(trigger_size[0]), int(trigger_size[1])),
            settings,
            generator=derived_generator(seed, "generator", beta),
            on_epoch=on_epoch,
        )
        measured = measure_stair(
            triggers,
            beta,
            classifier,
            data.images,
            data.labels,
            target_class,
            generator=derived_generator(seed, "stair", beta),
            on_progress=lambda done, total: log.reporter.step("fresh sample", done, total),
        )
        summary = {
            "fresh_F": measured.strengths.mean().item(),
            "fresh_valid_share": measured.valid_share,
            "fresh_mutual_information": measured.mutual_information,
            "fresh_attack_success_rate": measured.attack_success_rate,
        }
        tracked.metrics(summary)
        save_generator(triggers, beta, trained_generator)
        write_json(trained_generator / "curves.json", {"generator": curves})
        write_json(trained_generator / "measurement.json", {**summary, "F": measured.strengths.tolist()})
