"""Classifiers: shapes, sizes, saving, folding."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from untrigger.classifiers import Classifier, frozen, load_classifier, new_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.settings.methods import ClassifierSettings


def make(
    architecture: Literal["resnet18", "small_resnet"],
    images: torch.Tensor,
    seed: int = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Classifier:
    settings = ClassifierSettings(architecture=architecture, precision=precision)
    return new_classifier(settings, 10, images, torch.Generator().manual_seed(seed))


def shake_norms(classifier: Classifier) -> None:
    """Give batch norm statistics that folding has to respect."""
    rng = torch.Generator().manual_seed(5)
    for name, tensor in classifier.state_dict().items():
        if "running_mean" in name or name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))


@pytest.mark.parametrize(
    ("architecture", "parameters"), [("resnet18", 11_173_962), ("small_resnet", 290_762)], ids=lambda x: str(x)
)
def test_the_networks_have_the_sizes_they_promise(
    architecture: Literal["resnet18", "small_resnet"], parameters: int, tiny_images: ImageData
) -> None:
    classifier = make(architecture, tiny_images.images)
    assert sum(p.numel() for p in classifier.parameters()) == parameters
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("architecture", ["resnet18", "small_resnet"])
def test_freezing_folds_every_batch_norm_and_changes_no_answer(
    architecture: Literal["resnet18", "small_resnet"], tiny_images: ImageData
) -> None:
    classifier = make(architecture, tiny_images.images)
    shake_norms(classifier)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    fixed = frozen(classifier, tiny_images.images)
    assert torch.allclose(fixed(images), classifier.eval()(images), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fixed.modules())
    assert not any(p.requires_grad for p in fixed.parameters())
    assert any(p.requires_grad for p in classifier.parameters())


@pytest.mark.parametrize("architecture", ["resnet18", "small_resnet"])
def test_bf16_answers_nearly_what_fp32_does_frozen_or_not(
    architecture: Literal["resnet18", "small_resnet"], tiny_images: ImageData
) -> None:
    exact, rough = (make(architecture, tiny_images.images, precision=p).eval() for p in ("fp32", "bf16"))
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = exact(images).softmax(1)
    for classifier in (rough, frozen(rough, tiny_images.images)):
        logits = classifier(images)
        assert logits.dtype == torch.float32
        assert torch.allclose(logits.softmax(1), expected, atol=0.02)
        assert not torch.equal(logits.softmax(1), expected)
    assert {p.dtype for p in rough.parameters()} == {torch.float32}
    assert {p.dtype for p in frozen(rough, tiny_images.images).network.parameters()} == {torch.bfloat16}


def test_bytes_and_scaled_images_get_the_same_answers(tiny_images: ImageData) -> None:
    classifier = make("small_resnet", tiny_images.images).eval()
    levels = tiny_images.images[:8]
    assert torch.allclose(classifier(levels), classifier(levels.float() / 255), atol=1e-5)


def test_a_stamped_trigger_is_clipped_to_the_range_of_pixels(tiny_images: ImageData) -> None:
    classifier = make("small_resnet", tiny_images.images).eval()
    images, positions = tiny_images.images[:8], torch.full((8, 2), 5)
    trigger = torch.linspace(-1, 2, 27).view(1, 3, 3, 3)
    clipped = (images.float() / 255).clone()
    clipped[:, :, 5:8, 5:8] = trigger.clamp(0, 1)
    stamped = classifier.classify_stamped(images, trigger, positions)
    assert torch.allclose(stamped, classifier(clipped), atol=1e-5)


def test_large_pictures_pass_a_few_at_a_time_with_the_same_answers_and_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (45, 3, 224, 224), generator=rng, dtype=torch.uint8)
    classifier = frozen(make("small_resnet", images), images)
    places = torch.randint(0, 220, (45, 2), generator=rng)
    passed: list[int] = []
    classifier.network.register_forward_pre_hook(lambda network, inputs: passed.append(len(inputs[0])))

    def answered(parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        trigger = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
        batches = zip(images.split(parts), places.split(parts), strict=True)
        logits = torch.cat([classifier.classify_stamped(some, trigger, where) for some, where in batches])
        logits.softmax(1)[:, 3].sum().backward()
        assert trigger.grad is not None
        return logits.detach(), trigger.grad

    together, gradient = answered(45)
    assert sum(passed) == 2 * 45 and max(passed) <= 20, "each on its way, and once more on the way back"
    alone, same = answered(9)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(gradient, same)
    with torch.no_grad():
        passed.clear()
        torch.testing.assert_close(classifier(images), torch.cat([classifier(some) for some in images.split(9)]))
    assert max(passed) <= 20


def test_the_input_is_normalised_by_the_statistics_of_the_training_images(tiny_images: ImageData) -> None:
    classifier = make("small_resnet", tiny_images.images)
    scaled = tiny_images.images.double() / 255
    assert classifier.mean.tolist() == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert classifier.std.tolist() == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_the_same_seed_gives_the_same_weights_whatever_the_global_state(tiny_images: ImageData) -> None:
    torch.manual_seed(1)
    first = make("small_resnet", tiny_images.images)
    torch.manual_seed(2)
    again, other = make("small_resnet", tiny_images.images), make("small_resnet", tiny_images.images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_a_saved_classifier_gives_the_same_answers(tmp_path: Path, tiny_classifier: Classifier) -> None:
    shake_norms(tiny_classifier)
    save_classifier(tiny_classifier, tmp_path)
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(load_classifier(tmp_path).eval()(images), tiny_classifier(images))


def test_a_classifier_with_a_missing_or_foreign_tensor_is_refused(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_classifier(tiny_classifier, tmp_path)
    file = tmp_path / "classifier.safetensors"
    tensors = load_file(file)
    save_file({name: t for name, t in tensors.items() if name != "network.fc.bias"}, file)
    with pytest.raises(UserError, match=r"network\.fc\.bias"):
        load_classifier(tmp_path)
    save_file({**tensors, "network.backdoor": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"network\.backdoor"):
        load_classifier(tmp_path)


def test_damaged_files_and_other_formats_are_refused(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_classifier(tiny_classifier, tmp_path)
    (tmp_path / "classifier.safetensors").write_bytes(b"\x80\x04not tensors")
    with pytest.raises(UserError, match="not a valid safetensors file"):
        load_classifier(tmp_path)
    description = json.loads((tmp_path / "classifier.json").read_text())
    (tmp_path / "classifier.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": None}, "classes: input should be a valid integer, got None"),
        ({"classes": 0}, "classes: input should be greater than or equal to 1, got 0"),
        ({"labels": 3}, "unknown field labels"),
        ({"settings": "small_resnet"}, "settings: must be a JSON object, got 'small_resnet'"),
        ({"settings": {"architecture": "small_resnet", "depth": 3}}, "unknown field settings.depth"),
        ({"settings": {"architecture": "small_resnet", "width": "wide"}}, "settings.width: input should be a valid"),
    ],
)
def test_a_description_of_a_classifier_that_makes_no_sense_is_told_by_file_and_field(
    tmp_path: Path, tiny_classifier: Classifier, change: dict[str, object], told: str
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    file = tmp_path / "classifier.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError) as refused:
        load_classifier(tmp_path)
    assert str(refused.value).startswith(f"{file}: {told}") and "\n" not in str(refused.value)


def test_a_description_of_a_network_larger_than_its_tensors_is_refused_before_that_is_made(
    tmp_path: Path, tiny_classifier: Classifier
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    settings = {"architecture": "small_resnet", "width": 512}
    told = {**json.loads((tmp_path / "classifier.json").read_text()), "classes": 2**20, "settings": settings}
    (tmp_path / "classifier.json").write_text(json.dumps(told))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="does not hold a small_resnet"):
        load_classifier(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "in KiB: it would take 8 GiB"


def test_a_field_that_a_description_lacks_is_named_and_a_byte_order_mark_is_skipped(
    tmp_path: Path, tiny_classifier: Classifier
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    file = tmp_path / "classifier.json"
    description = json.loads(file.read_text())
    file.write_text(json.dumps(description), encoding="utf-8-sig")
    assert load_classifier(tmp_path).classes == tiny_classifier.classes
    file.write_text(json.dumps({name: value for name, value in description.items() if name != "classes"}))
    with pytest.raises(UserError, match="classes is missing"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("name", "foreign", "whose"),
    [
        ("network.bn1.bias", "network.module.bn1.bias", "DataParallel"),
        ("network.bn1.bias", "module.bn1.bias", "DataParallel"),
        ("network.bn1.bias", "network._orig_mod.bn1.bias", "torch.compile"),
        ("network.bn1.bias", "bn1.bias", "a network by itself"),
        ("network.fc.bias", "linear.bias", "many a repository for CIFAR"),
        ("network.layer1.downsample.1.bias", "network.layer1.shortcut.1.bias", "many a repository for CIFAR"),
    ],
)
def test_weights_with_names_from_elsewhere_are_told_what_to_be_called(
    tmp_path: Path, tiny_classifier: Classifier, name: str, foreign: str, whose: str
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    tensors = load_file(tmp_path / "classifier.safetensors")
    save_file({foreign if key == name else key: t for key, t in tensors.items()}, tmp_path / "classifier.safetensors")
    with pytest.raises(UserError, match=f"as {whose} has them, rename {foreign} to {name}, and all others") as refused:
        load_classifier(tmp_path)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("network.fc.weight", float("nan"), "the tensor network.fc.weight holds numbers that are not finite"),
        ("network.bn1.running_var", float("inf"), "the tensor network.bn1.running_var holds numbers that are not"),
        ("mean", 120.0, "mean and std must be those of pixels in"),
        ("std", 0.0, "mean and std must be those of pixels in"),
    ],
)
def test_weights_that_can_compute_nothing_are_found_on_loading(
    tmp_path: Path, tiny_classifier: Classifier, name: str, value: float, told: str
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    tensors = load_file(tmp_path / "classifier.safetensors")
    save_file({**tensors, name: torch.full_like(tensors[name], value)}, tmp_path / "classifier.safetensors")
    with pytest.raises(UserError, match=told):
        load_classifier(tmp_path)


def test_weights_of_another_shape_are_told_by_name_and_counters_may_be_missing(
    tmp_path: Path, tiny_classifier: Classifier
) -> None:
    save_classifier(tiny_classifier, tmp_path)
    tensors = load_file(tmp_path / "classifier.safetensors")
    uncounted = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    save_file(uncounted, tmp_path / "classifier.safetensors")
    assert load_classifier(tmp_path).classes == tiny_classifier.classes
    save_file({**tensors, "network.fc.bias": torch.zeros(7)}, tmp_path / "classifier.safetensors")
    with pytest.raises(UserError, match=r"network.fc.bias has the shape \(7,\) and not \(3,\)"):
        load_classifier(tmp_path)
