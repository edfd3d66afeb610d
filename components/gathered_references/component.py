"""The component of the stage `gathered_references`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def gathered_references(
    trained: Input[list[Model]], defender_data: Input[Dataset], report: Output[Artifact], config: dict
) -> None:
    """Gather the references of the fan-out into one folder, which scans take.

    Args:
        trained: The references of each task.
        defender_data: Clean images that the defender has; they tell which data the references are for.
        report: The folder of references, and its address in the cluster's store.
        config: The whole configuration (ReferencesRunConfig).
    """
    from untrigger.stages import gathered_references

    gathered_references.run(
        trained=[part.path for part in trained],
        defender_data=defender_data.path,
        report=report.path,
        config=config,
    )
