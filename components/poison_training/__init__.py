"""The component of the stage poison_training."""
