"""The component of the stage `reference_scan`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from untrigger.components.stage_component import stage_component


@stage_component
def reference_scan(defender_data: Input[Dataset], scanned: Output[Artifact], names: str, task: dict) -> None:
    """Search clean models for what the scan of a suspect finds in them.

    Args:
        defender_data: Clean images that the defender has.
        scanned: What was found, per reference.
        names: The references of this task, one a line; none where a scan goes without.
        task: The parameters references, dataset, scan, seed of the stage.
    """
    from untrigger.stages import reference_scan

    reference_scan.run(defender_data=defender_data.path, scanned=scanned.path, names=names, **task)
