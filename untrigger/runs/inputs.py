"""What a run reads from outside: looked at before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.checkpoints.foreign import check_foreign
from untrigger.classifiers import load_classifier
from untrigger.datasets.sources import check_dataset, source_of
from untrigger.references import check_split, reference_places, references_folder, split_of
from untrigger.settings.methods import DataSettings
from untrigger.settings.pipelines import RunConfig
from untrigger.storage.sources import Source, model_place
from untrigger.triggers import read_trigger


def input_sources(config: RunConfig) -> list[Source]:
    """Dataset, models, references and triggers of a run, not yet looked at."""
    return [source_of(kind, name) for kind, name in (("dataset", config.dataset), *config.inputs())]


def check_input(source: Source, data: DataSettings) -> None:
    """UserError when `source` is plainly not to be had or of no use; reads no images, but fetches what is stored."""
    if source.kind == "dataset":
        check_dataset(source.name, data)
    elif source.kind == "model":
        place = model_place(source.name)
        if place.is_dir():
            load_classifier(place)
        else:
            check_foreign(place)
    elif source.kind == "references":
        reference_places(references_folder(source.name))
    else:
        read_trigger(source.name)


def check_input_of_run(source: Source, config: RunConfig) -> None:
    """As `check_input`; UserError, too, when references were trained on another part of the data than the run takes."""
    check_input(source, config.data)
    if source.kind == "references":
        check_split(references_folder(source.name), split_of(config))


@dataclass(frozen=True)
class RunInputs:
    """`contents` stands for what each name gives, as a resumed run must find it; `places` are to be read from."""

    contents: dict[str, str]
    places: list[Path]

    @classmethod
    def of(cls, config: RunConfig) -> RunInputs:
        """UserError as `check_input_of_run` raises it."""
        sources = input_sources(config)
        for source in sources:
            check_input_of_run(source, config)
        contents = {source.name: source.identity() for source in sources}
        return cls(contents, [place for source in sources for place in source.places()])
