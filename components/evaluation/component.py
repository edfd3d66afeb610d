"""The component of the stage `evaluation`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def evaluation(
    evaluation_data: Input[Dataset],
    defender_data: Input[Dataset],
    backdoored_classifier: Input[Model],
    true_trigger: Input[Artifact],
    trigger_staircase: Input[Model],
    embedding: Input[Artifact],
    retrained: Input[list[Model]],
    ideal: Input[Model],
    report: Output[Artifact],
    trigger: str,
    config: dict,
    label: str = "",
) -> None:
    """Measure every classifier with the true trigger, and write the report.

    Args:
        evaluation_data: Images that only the evaluation uses.
        defender_data: Clean images that the defender has.
        backdoored_classifier: The classifier before the defence.
        true_trigger: The planted trigger.
        trigger_staircase: The ensemble of generators.
        embedding: The t-SNE figure.
        retrained: The classifiers of all methods.
        ideal: The classifiers retrained with the true trigger.
        report: results.json, report.html, figures and the classifier retrained with the ensemble.
        trigger: Name of the planted trigger.
        config: The whole configuration (DefenseConfig).
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import evaluation

    evaluation.run(
        evaluation_data=evaluation_data.path,
        defender_data=defender_data.path,
        backdoored_classifier=backdoored_classifier.path,
        true_trigger=true_trigger.path,
        trigger_staircase=trigger_staircase.path,
        embedding=embedding.path,
        retrained=[classifiers.path for classifiers in retrained],
        ideal=ideal.path,
        report=report.path,
        trigger=trigger,
        config=config,
        label=label,
    )
