"""A run's files: its output folder, its inputs, and what of it is published."""
