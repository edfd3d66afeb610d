"""The component of the stage evaluation."""
