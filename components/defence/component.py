"""The component of the stage `defence`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def defence(
    defender_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    scans: Input[Artifact],
    retrained: Output[Model],
    report: Output[Artifact],
    task: dict,
    tracking: dict,
) -> None:
    """Close a model of others against what a scan found in it.

    Args:
        defender_data: Clean images that the defender has.
        evaluation_data: Images that only the measurement uses.
        scans: What the scan said of the model.
        retrained: The retrained model by the names that it came with; the result alone where nothing was retrained.
        report: defence.json, report.html, pictures, triggers, and the retrained model.
        task: The parameters model, references, config of the stage.
        tracking: How the run appears in MLflow (TrackedAs): what a model in a store was called before.
    """
    from untrigger.stages import defence

    defence.run(
        defender_data=defender_data.path,
        evaluation_data=evaluation_data.path,
        scans=scans.path,
        retrained=retrained.path,
        report=report.path,
        **task,
        tracking=tracking,
    )
