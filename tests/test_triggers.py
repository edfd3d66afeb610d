"""Triggers and stamping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from untrigger.errors import UserError
from untrigger.triggers import (
    always,
    binary_patterns,
    check_fits,
    checkerboard,
    colour_trigger,
    either,
    one_of,
    read_trigger,
    stamp,
)


def test_there_are_51_classes_of_binary_patterns_and_each_of_the_512_belongs_to_exactly_one() -> None:
    patterns = binary_patterns()
    assert patterns.shape == (51, 3, 3, 3)

    def relatives(pattern: torch.Tensor) -> set[tuple[float, ...]]:
        turned = [torch.rot90(pattern, k) for k in range(4)]
        shapes = turned + [t.flip(1) for t in turned]
        return {tuple(s.flatten().tolist()) for shape in shapes for s in (shape, 1 - shape)}

    classes = [relatives(pattern[0]) for pattern in patterns]
    assert sum(len(members) for members in classes) == 512
    assert len(set.union(*classes)) == 512


def test_binary_patterns_are_grey() -> None:
    patterns = binary_patterns()
    assert torch.equal(patterns[:, 0], patterns[:, 1]) and torch.equal(patterns[:, 0], patterns[:, 2])


@given(
    image=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    shared=st.booleans(),
    data=st.data(),
)
def test_a_stamped_image_differs_only_inside_the_patch(
    image: tuple[int, int], dtype: torch.dtype, shared: bool, data: st.DataObject
) -> None:
    height, width = (data.draw(st.integers(1, extent)) for extent in image)
    corner = st.tuples(st.integers(0, image[0] - height), st.integers(0, image[1] - width))
    corners = data.draw(st.lists(corner, min_size=1, max_size=4))
    rng = torch.Generator().manual_seed(0)
    images = (torch.rand(len(corners), 3, *image, generator=rng) * 0.5).to(dtype)
    triggers = (torch.rand(1 if shared else len(corners), 3, height, width, generator=rng) * 0.3 + 0.6).to(dtype)
    expected = images.clone()
    for index, (top, left) in enumerate(corners):
        expected[index, :, top : top + height, left : left + width] = triggers[0 if shared else index]
    stamped = stamp(images, triggers, torch.tensor(corners))
    assert stamped.dtype == dtype and torch.equal(stamped, expected)


def test_every_place_where_the_patch_fits_is_reached_alike(rng: torch.Generator) -> None:
    stamped = stamp(torch.zeros(4000, 3, 4, 5), torch.ones(1, 3, 3, 3), rng)
    corners = [(top, left) for top in range(2) for left in range(3)]
    counts = [int(stamped[:, 0, top : top + 3, left : left + 3].flatten(1).all(1).sum()) for top, left in corners]
    assert sum(counts) == 4000
    assert min(counts) > 4000 / 6 * 0.8


def test_the_places_differ_between_the_images_of_a_batch(rng: torch.Generator) -> None:
    stamped = stamp(torch.zeros(20, 3, 16, 16), torch.ones(1, 3, 3, 3), rng)
    assert len({tuple(image.flatten().tolist()) for image in stamped}) > 10


def test_the_gradient_of_stamping_reaches_each_trigger_and_only_its_pixels(rng: torch.Generator) -> None:
    images = torch.rand(4, 3, 8, 8, generator=rng, dtype=torch.float64)
    triggers = (0.2 + 0.6 * torch.rand(4, 3, 2, 2, generator=rng, dtype=torch.float64)).requires_grad_()
    weights = torch.rand(4, 3, 8, 8, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda t: (stamp(images, t, torch.Generator().manual_seed(3)) * weights).sum(), [triggers]
    )


def test_stamping_leaves_the_given_images_as_they_are(rng: torch.Generator) -> None:
    images = torch.zeros(2, 3, 6, 6)
    stamp(images, torch.ones(1, 3, 3, 3), rng)
    assert not images.any()


def test_triggers_are_found_by_name(tmp_path: Path) -> None:
    assert torch.equal(read_trigger("checkerboard"), checkerboard())
    assert torch.equal(read_trigger("binary:8"), binary_patterns()[8])
    assert torch.equal(read_trigger("colour:4"), colour_trigger(4))
    assert not torch.equal(read_trigger("colour:5"), colour_trigger(4))
    Image.new("RGB", (5, 2), (255, 0, 51)).save(tmp_path / "patch.png")
    picture = read_trigger(str(tmp_path / "patch.png"))
    assert picture.shape == (3, 2, 5)
    assert picture[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    save_file({"trigger": torch.full((3, 4, 4), 0.25)}, tmp_path / "patch.safetensors")
    assert torch.equal(read_trigger(str(tmp_path / "patch.safetensors")), torch.full((3, 4, 4), 0.25))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("binary:51", "binary:K needs K from 0 to 50, got 51"),
        ("star", "unknown trigger 'star'"),
        ("missing.png", "missing.png does not exist"),
        ("missing.safetensors", "cannot read missing.safetensors"),
    ],
)
def test_a_bad_trigger_is_named(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        read_trigger(name)


def test_a_trigger_out_of_range_or_of_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "patch.safetensors"
    save_file({"trigger": torch.full((3, 2, 2), 1.5)}, path)
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        read_trigger(str(path))
    save_file({"trigger": torch.zeros(2, 2)}, path)
    with pytest.raises(UserError, match=r"shape \(3, height, width\)"):
        read_trigger(str(path))


def test_a_trigger_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="33x3 pixels is larger than the images of 32x32"):
        check_fits((33, 3), torch.zeros(1, 3, 32, 32))


def test_a_trigger_picture_is_read_as_it_is_seen_or_refused(tmp_path: Path) -> None:
    mark = np.zeros((5, 5, 4), np.uint8)
    mark[1:4, 1:4] = 255
    Image.fromarray(mark).save(tmp_path / "seethrough.png")
    Image.fromarray(mark[..., :3]).save(tmp_path / "PATCH.PNG")
    Image.fromarray(np.full((3, 3), 20000, np.uint16)).save(tmp_path / "sixteen.png")
    with pytest.raises(UserError, match=r"seethrough\.png has see-through pixels"):
        read_trigger(str(tmp_path / "seethrough.png"))
    assert read_trigger(str(tmp_path / "PATCH.PNG")).sum() == 27
    assert read_trigger(str(tmp_path / "sixteen.png")).flatten().tolist() == pytest.approx(
        [20000 / 65535] * 27, abs=0.002
    )


def test_a_trigger_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    for name in ("patch.png", "patch.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        with pytest.raises(UserError, match="is a Git LFS pointer, not the file itself"):
            read_trigger(str(tmp_path / name))


def test_one_of_several_triggers_is_drawn_as_often_as_another(rng: torch.Generator) -> None:
    triggers = torch.stack([torch.full((3, 3, 3), value) for value in (0.0, 0.5, 1.0)])
    drawn = one_of(triggers)(3000, rng)
    assert drawn.shape == (3000, 3, 3, 3)
    for trigger in triggers:
        assert (drawn == trigger).flatten(1).all(1).float().mean().item() == pytest.approx(1 / 3, abs=0.05)


def test_either_of_two_sources_gives_half_of_the_triggers(rng: torch.Generator) -> None:
    drawn = either(always(torch.zeros(3, 3, 3)), always(torch.ones(3, 3, 3)))(3000, rng)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.05)
    assert bool((drawn == drawn[:, :1, :1, :1]).all()), "each is whole"
