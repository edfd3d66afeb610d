"""Who the stages are: the one table that components, DAGs, images, progress and tracking take their names from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from untrigger import __version__

OWN_IMAGES = "untrigger/"
"""How the names of the images begin that this project builds."""


@dataclass(frozen=True)
class Resources:
    """What a stage asks of a cluster. Requests are limits; `hours` end a stage that hangs; a local run ignores it all.

    `cached`: an earlier run's outputs may be reused, since they depend on the inputs alone. `uses_store`: it reads
    inputs from the object store, or keeps snapshots of its trainings there.
    """

    cpu: str
    memory: str
    hours: float
    gpus: int = 0
    cached: bool = True
    uses_store: bool = False


_BOOKKEEPING = Resources(cpu="250m", memory="512Mi", hours=0.25, cached=False)
_GATHERING = Resources(cpu="1", memory="4Gi", hours=0.5)
_GPU = Resources(cpu="4", memory="16Gi", hours=12, gpus=1)
_TRAIN = replace(_GPU, uses_store=True)


@dataclass(frozen=True)
class StageIdentity:
    """`name` is the stage's in code and among kept outputs, `title` what a cluster's pages show.

    `run_title` is what one run of it is called in progress and tracking, where that is not the title; it may name
    parameters in braces. `target` of the Dockerfile builds its image, where that is not called like its task.
    `per_trigger`: a sweep runs it for each trigger, or a grid for each backdoor.
    """

    name: str
    title: str
    resources: Resources
    run_title: str = ""
    target: str = ""
    per_trigger: bool = False

    @property
    def task(self) -> str:
        """What its task is called in the compiled DAGs."""
        return self.name.replace("_", "-")

    @property
    def image(self) -> str:
        """Its image, which carries untrigger: nothing is installed at run time."""
        return f"{OWN_IMAGES}{self.target or self.task}:{__version__}"


# What ends a pipeline writes to the tracking run of this very pipeline run, so it runs every time.
_ALL = (
    StageIdentity("open_run", "open run", _BOOKKEEPING),
    StageIdentity("close_run", "close run", _BOOKKEEPING),
    StageIdentity("prepare_data", "prepare data", Resources(cpu="2", memory="8Gi", hours=2, uses_store=True)),
    StageIdentity("clean_training", "clean training", _TRAIN),
    StageIdentity("poison_training", "poison training", _TRAIN, per_trigger=True),
    StageIdentity("pixel_sgd", "pixel SGD", _TRAIN, per_trigger=True),
    StageIdentity(
        "generator_training", "generator training", _TRAIN, "generator beta={betas} seed={seed}", per_trigger=True
    ),
    StageIdentity("staircase", "staircase", _GATHERING, per_trigger=True),
    StageIdentity("visualisation", "t-SNE visualisation", _GPU, per_trigger=True),
    StageIdentity("retraining", "retraining", _TRAIN, "retraining {method}", per_trigger=True),
    StageIdentity("ideal_retraining", "ideal retraining", _TRAIN, "retraining ideal", "retraining", per_trigger=True),
    StageIdentity("evaluation", "evaluation", replace(_GPU, hours=4, cached=False), per_trigger=True),
    StageIdentity("aggregation", "aggregation", replace(_GATHERING, cached=False)),
    StageIdentity("reference_training", "reference training", _TRAIN, "references {numbers}"),
    StageIdentity("gathered_references", "gathered references", replace(_GATHERING, cached=False, uses_store=True)),
    StageIdentity("reference_scan", "reference scan", _TRAIN, target="model-scan"),
    StageIdentity("model_scan", "model scan", _TRAIN),
    StageIdentity("verdicts", "verdicts", replace(_GATHERING, cached=False)),
    StageIdentity("defence", "defence", replace(_TRAIN, cached=False)),
    StageIdentity(
        "grid_planting", "grid planting", _TRAIN, "planting {attack} seed={seed}", "poison-training", per_trigger=True
    ),
    StageIdentity(
        "grid_cells", "grid cells", _TRAIN, "{methods} against {attack} seed={seed}", "retraining", per_trigger=True
    ),
    StageIdentity(
        "gathered_cells", "gathered cells", _GATHERING, "cells of {attack} seed={seed}", "staircase", per_trigger=True
    ),
    StageIdentity("grid_report", "grid report", replace(_GATHERING, cached=False, uses_store=True), target="verdicts"),
)

STAGES = {identity.name: identity for identity in _ALL}
"""The stages by name."""
