"""Images, and those of them that are searched with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from untrigger.datasets.images import ImageData
from untrigger.errors import UserError


def test_a_search_leaves_out_the_images_of_the_target_class_or_takes_all(tiny_images: ImageData) -> None:
    others = tiny_images.for_search(1, "other_classes")
    assert others.labels.unique().tolist() == [0, 2] and len(others) == 80
    assert torch.equal(others.images, tiny_images.images[tiny_images.labels != 1])
    assert tiny_images.for_search(1, "all") is tiny_images


def test_without_images_of_other_classes_there_is_no_f(tiny_images: ImageData) -> None:
    red = replace(tiny_images, labels=torch.zeros_like(tiny_images.labels))
    with pytest.raises(UserError, match="every image belongs to the target class 0"):
        red.for_search(0, "other_classes")
    assert len(red.for_search(0, "all")) == len(red)
