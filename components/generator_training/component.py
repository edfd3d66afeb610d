"""The component of the stage `generator_training`."""

from kfp.dsl import Dataset, Input, Model, Output
from untrigger.components.stage_component import stage_component


@stage_component("generator_training")
def generator_training(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    trained_generator: Output[Model],
    beta: float,
    generator: dict,
    target_class: int,
    trigger_size: list,
    seed: int,
) -> None:
    """Train the generator of one stair, F >= beta, and measure how well the stair is filled.

    Args:
        backdoored_classifier: The classifier under suspicion.
        defender_data: Clean images that the defender has.
        trained_generator: The generator, its curves and its measurement on fresh samples.
        beta: The stair.
        generator: GeneratorSettings.
        target_class: Class under suspicion.
        trigger_size: Height and width of the triggers to look for.
        seed: Seed of the whole run.
    """
    from untrigger.stages import generator_training

    generator_training.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        trained_generator=trained_generator.path,
        beta=beta,
        generator=generator,
        target_class=target_class,
        trigger_size=trigger_size,
        seed=seed,
    )
