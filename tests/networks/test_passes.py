"""Counting what goes through a network."""

from __future__ import annotations

from untrigger.classifiers import Classifier, frozen
from untrigger.datasets.images import ImageData
from untrigger.metrics import predict
from untrigger.networks.passes import counted_passes


def test_images_are_counted_in_the_network_and_its_copies_and_no_more_after(
    tiny_classifier: Classifier, tiny_images: ImageData
) -> None:
    with counted_passes(tiny_classifier.network) as passes:
        predict(tiny_classifier, tiny_images.images)
        assert passes.count == 120
        copied = frozen(tiny_classifier, tiny_images.images)
        compared = passes.count - 120
        predict(copied, tiny_images.images[:50])
    predict(tiny_classifier, tiny_images.images)
    predict(copied, tiny_images.images)
    assert passes.count == 120 + compared + 50 and compared < 20
