"""What a local run reads from outside: looked at before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.datasets import check_dataset, dataset_files, dataset_place
from untrigger.settings import DefenseConfig, SweepConfig
from untrigger.stored_inputs import CLASSIFIER_FILES, classifier_folder
from untrigger.triggers import read_trigger, trigger_files


@dataclass(frozen=True)
class RunInputs:
    """`files` are those that a resumed run must find unchanged; `places` are the files and folders to be read."""

    files: list[Path]
    places: list[Path]

    @classmethod
    def of(cls, config: DefenseConfig | SweepConfig) -> RunInputs:
        """Reads no images, but fetches what lies in a store; UserError when something is plainly not to be had."""
        triggers = config.triggers if isinstance(config, SweepConfig) else (config.trigger,)
        check_dataset(config.dataset, config.data)
        for trigger in triggers:
            read_trigger(trigger)
        files = [*dataset_files(config.dataset), *(file for name in triggers for file in trigger_files(name))]
        place = dataset_place(config.dataset)
        places = [*([place] if place else []), *(file for name in triggers for file in trigger_files(name))]
        if config.weights is not None:
            folder = classifier_folder(config.weights)
            places.append(folder)
            # An address in a store says what lies there.
            if not config.weights.startswith("s3://"):
                files += [folder / name for name in CLASSIFIER_FILES]
        return cls(files, places)
