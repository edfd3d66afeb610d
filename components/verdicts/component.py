"""The component of the stage `verdicts`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from untrigger.components.stage_component import stage_component


@stage_component
def verdicts(
    model_scans: Input[list[Artifact]],
    reference_scans: Input[list[Artifact]],
    defender_data: Input[Dataset],
    report: Output[Artifact],
    config: dict,
    tracking: dict,
    label: str = "",
) -> None:
    """Judge each scanned model by its rank among the references.

    Args:
        model_scans: What was found in the models.
        reference_scans: What was found in the references.
        defender_data: Clean images that the defender has.
        report: scans.json, report.html, and a folder per model.
        config: What the scan is told (ScanConfig).
        tracking: How the run appears in MLflow (TrackedAs): what models in a store were called before.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import verdicts

    verdicts.run(
        model_scans=[part.path for part in model_scans],
        reference_scans=[part.path for part in reference_scans],
        defender_data=defender_data.path,
        report=report.path,
        config=config,
        tracking=tracking,
        label=label,
    )
