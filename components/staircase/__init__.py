"""The component of the stage staircase."""
