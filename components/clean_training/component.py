"""The component of the stage `clean_training`."""

from kfp.dsl import Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component("clean_training")
def clean_training(
    training_data: Input[Dataset],
    clean_classifier: Output[Model],
    classifier: dict,
    training: dict,
    weights: str,
    seed: int,
) -> None:
    """Train a classifier before any attack, or take a ready-made one.

    Args:
        training_data: Images that the attacker trains on.
        clean_classifier: The classifier, and its curve.
        classifier: ClassifierSettings.
        training: CleanTrainingSettings.
        weights: A ready-made classifier, a folder or an address in a store; empty to train one.
        seed: Seed of the whole run.
    """
    from untrigger.stages import clean_training

    clean_training.run(
        training_data=training_data.path,
        clean_classifier=clean_classifier.path,
        classifier=classifier,
        training=training,
        weights=weights,
        seed=seed,
    )
