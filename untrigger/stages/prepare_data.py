"""Prepare data: read a dataset, split it three ways, and check that the attack and the search fit it."""

from __future__ import annotations

from untrigger.attacks.fitting import check_attack_fits
from untrigger.datasets.images import DataOrigin, save_images
from untrigger.datasets.sources import dataset_source, read_split
from untrigger.errors import UserError
from untrigger.seeding import derived_seed
from untrigger.settings.methods import DataSettings, SearchImages
from untrigger.stages.log import Log
from untrigger.stages.reuse import DatasetName
from untrigger.stages.stage import OutFolder, stage


@stage("prepare_data")
def run(
    log: Log,
    *,
    training_data: OutFolder,
    defender_data: OutFolder,
    evaluation_data: OutFolder,
    dataset: DatasetName,
    data: DataSettings,
    patch_sizes: list[tuple[int, int]],
    target_class: int,
    source_class: int | None = None,
    search_images: SearchImages,
    generator_batch_size: int,
    seed: int,
) -> None:
    """Read `dataset` and write the three parts of its split.

    patch_sizes: height and width of each kind of patch that is planted or looked for. source_class: the class whose
    images alone are sent to the target, if it is one. Raises UserError when the dataset cannot be read, or when the
    classes, a patch or the search do not fit it: later stages would say so after hours of training.
    """
    with log.run() as tracked:
        split = read_split(dataset, data, seed=derived_seed(seed, "split"), on_progress=log.every_tenth("image"))
        check_attack_fits(dataset, split, target_class=target_class, source_class=source_class, patch_sizes=patch_sizes)
        searched = len(split.defender.for_search(target_class, search_images))
        if searched < generator_batch_size:
            raise UserError(
                f"generator.batch_size {generator_batch_size} is larger than the defender's part of {dataset}, "
                f"{searched} images to search with: lower it, or raise data.defender_share"
            )
        for size in patch_sizes:
            if tuple(size) == split.training.images.shape[-2:]:
                log.reporter.say(
                    "warning",
                    "a trigger as large as the image leaves the classifier nothing of it to see: cut the mark out of "
                    "its picture if it alone is meant",
                )
        parts = {
            training_data: ("training", split.training),
            defender_data: ("defender", split.defender),
            evaluation_data: ("evaluation", split.evaluation),
        }
        origin = DataOrigin(identity=dataset_source(dataset).identity())
        for folder, (name, part) in parts.items():
            origin.save(folder)
            save_images(part, folder)
            tracked.metrics({f"{name}_images": len(part)})
