"""The component of the stage `model_scan`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from untrigger.components.stage_component import stage_component


@stage_component
def model_scan(defender_data: Input[Dataset], scanned: Output[Artifact], models: str, task: dict) -> None:
    """Search models of others for whatever opens them.

    Args:
        defender_data: Clean images that the defender has.
        scanned: What was measured of each model, and found in it.
        models: The models of this task, one a line; none where what is to be closed is given.
        task: The parameters dataset, classifier, scan, seed of the stage.
    """
    from untrigger.stages import model_scan

    model_scan.run(defender_data=defender_data.path, scanned=scanned.path, models=models, **task)
