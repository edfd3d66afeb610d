"""The networks inside the classifiers and generators, and how they compute."""
