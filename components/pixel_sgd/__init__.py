"""The component of the stage pixel_sgd."""
