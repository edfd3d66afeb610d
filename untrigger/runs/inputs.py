"""What a local run reads from outside: looked at before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.datasets.sources import check_dataset, dataset_files, dataset_place
from untrigger.settings.runs import DefenseConfig, SweepConfig
from untrigger.storage.downloads import CLASSIFIER_FILES, classifier_folder, is_trigger_file, trigger_path
from untrigger.triggers import read_trigger


@dataclass(frozen=True)
class RunInputs:
    """`files` are those that a resumed run must find unchanged; `places` are the files and folders to be read."""

    files: list[Path]
    places: list[Path]

    @classmethod
    def of(cls, config: DefenseConfig | SweepConfig) -> RunInputs:
        """Reads no images, but fetches what lies in a store; UserError when something is plainly not to be had."""
        check_dataset(config.dataset, config.data)
        for trigger in config.planted():
            read_trigger(trigger)
        on_file = [name for name in config.planted() if is_trigger_file(name)]
        stored = [name for name in config.planted() if name.startswith("s3://")]
        files = [*dataset_files(config.dataset), *(Path(name) for name in on_file)]
        place = dataset_place(config.dataset)
        places = [*([place] if place else []), *(trigger_path(name) for name in on_file + stored)]
        if config.weights is not None:
            folder = classifier_folder(config.weights)
            places.append(folder)
            # An address in a store says what lies there.
            if not config.weights.startswith("s3://"):
                files += [folder / name for name in CLASSIFIER_FILES]
        return cls(files, places)
