"""The component of the stage generator_training."""
