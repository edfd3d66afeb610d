"""How a classifier normalises its input: by name, or by numbers."""

from __future__ import annotations

import math

Channels = tuple[float, float, float]

DATA = "data"
"""The channel statistics of the images that are given."""

NORMALISATIONS: dict[str, tuple[Channels, Channels]] = {
    "identity": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # The deviations within single images, averaged; much code copies them from the pytorch-cifar lineage.
    "cifar10_per_image": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""What is usual: mean and standard deviation of each channel, of pixels in [0, 1]."""


def stated_normalisation(text: str) -> tuple[Channels, Channels] | None:
    """Mean and deviation per channel that `text` states, None for those of the data; ValueError when it is neither."""
    if text == DATA:
        return None
    if text in NORMALISATIONS:
        return NORMALISATIONS[text]
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
        known = ", ".join((DATA, *NORMALISATIONS))
        raise ValueError(f"must be one of {known}, or three means and three positive deviations, got {text!r}")
    return (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])
