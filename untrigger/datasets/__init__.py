"""Datasets: from files to uint8 tensors, split in three."""
