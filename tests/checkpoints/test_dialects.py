"""A file that another library wrote gives the answers that it gave there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from tests.support.foreign_networks import (
    CLASSES,
    CifarNetwork,
    CifarVgg,
    HuggingFaceNetwork,
    timm_network,
    torchvision_network,
    trojanzoo_network,
    with_small_stem,
    with_statistics,
)
from untrigger.checkpoints.foreign import read_foreign
from untrigger.checkpoints.unwrapping import state_of, without_prefixes
from untrigger.errors import UserError
from untrigger.networks.architectures import build_network, register_architecture
from untrigger.profiles import config_for
from untrigger.settings.methods import ClassifierSettings
from untrigger.settings.runs import DefenseConfig

NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "torchvision 7x7": (lambda: torchvision_network(18, "7x7"), "torchvision", "resnet18_7x7"),
    "torchvision 3x3": (lambda: torchvision_network(18, "3x3"), "torchvision", "resnet18"),
    "torchvision 34": (lambda: torchvision_network(34, "3x3"), "torchvision", "resnet34"),
    "torchvision pooled": (
        lambda: torchvision_network(34, "3x3 and max-pool"),
        "torchvision",
        "resnet34_3x3_maxpool",
    ),
    "timm 7x7": (lambda: timm_network("resnet34"), "torchvision", "resnet34_7x7"),
    "timm 3x3": (lambda: with_small_stem(timm_network("resnet18")), "torchvision", "resnet18"),
    "transformers": (HuggingFaceNetwork, "Hugging Face", "resnet18_7x7"),
    "pytorch-cifar 18": (lambda: CifarNetwork((2, 2, 2, 2)), "pytorch-cifar", "resnet18"),
    "pytorch-cifar 34": (lambda: CifarNetwork((3, 4, 6, 3)), "pytorch-cifar", "resnet34"),
    "pre-activation": (
        lambda: CifarNetwork((2, 2, 2, 2), preactivated=True),
        "pytorch-cifar",
        "preact_resnet18",
    ),
    "VGG-11": (lambda: CifarVgg(11), "pytorch-cifar", "vgg11_bn"),
    "VGG-16": (lambda: CifarVgg(16), "pytorch-cifar", "vgg16_bn"),
    "narrow": (lambda: CifarNetwork((2, 2, 2, 2), width=8), "pytorch-cifar", "resnet18"),
    "narrow 34": (lambda: CifarNetwork((3, 4, 6, 3), width=10), "pytorch-cifar", "resnet34"),
    "narrow pre-activation": (
        lambda: CifarNetwork((2, 2, 2, 2), preactivated=True, width=16),
        "pytorch-cifar",
        "preact_resnet18",
    ),
    "wide": (lambda: CifarNetwork((2, 2, 2, 2), width=96), "pytorch-cifar", "resnet18"),
    "narrow VGG-11": (lambda: CifarVgg(11, width=12), "pytorch-cifar", "vgg11_bn"),
    "TrojanZoo": (trojanzoo_network, "TrojanZoo", "resnet18"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_another_library_answers_as_it_did_there(name: str, tmp_path: Path, rng: torch.Generator) -> None:
    build, dialect, architecture = NETWORKS[name]
    network = with_statistics(build())
    torch.save(network.state_dict(), tmp_path / "model.pth")
    foreign = read_foreign(tmp_path / "model.pth")
    assert (foreign.match.dialect, foreign.match.classes) == (dialect, CLASSES)
    assert architecture in foreign.match.architectures
    given = ClassifierSettings(normalisation="identity", precision="fp32")
    settings = foreign.match.read_as(architecture, given)
    images = torch.rand(3, 3, 32, 32, generator=rng)
    with torch.inference_mode():
        found, expected = foreign.classifier(settings, torch.zeros(1))(images), network(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_same_network_reads_alike_from_every_kind_of_file(tmp_path: Path) -> None:
    network = torchvision_network(18, "7x7")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    torch.save(network.state_dict(), tmp_path / "model.bin", _use_new_zipfile_serialization=False)
    save_model(network, str(tmp_path / "model.safetensors"))
    found = [read_foreign(tmp_path / f"model.{suffix}") for suffix in ("pt", "bin", "safetensors")]
    assert [each.kind for each in found] == ["torch zip", "torch legacy", "safetensors"]
    for each in found[1:]:
        assert all(torch.equal(each.match.state[name], tensor) for name, tensor in found[0].match.state.items())


STATE = {"conv1.weight": torch.ones(1), "bn1.num_batches_tracked": torch.tensor(3)}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"net": STATE, "acc": 93.1, "epoch": 7},
        {"epoch": 7, "state_dict": prefixed("model.")},
        {"model_state_dict": prefixed("_orig_mod.module."), "optimizer": {"state": {}}},
        {"netC": prefixed("backbone."), "netG": {"other": torch.ones(2)}},
        {"model": {"state_dict": prefixed("net.")}},
    ],
)
def test_wrappers_prefixes_and_counters_fall_away(content: object) -> None:
    found = state_of(content)
    assert found is not None and len(found) == 2, "the file's own names are kept for writing it back"
    assert set(without_prefixes(found)) == {"conv1.weight"}


@pytest.mark.parametrize("content", [None, [STATE], {}, {"model": 3}, {"acc": 93.1}])
def test_what_holds_no_tensors_by_name_has_no_state(content: object) -> None:
    assert state_of(content) is None


def huge_head() -> dict[str, Tensor]:
    """A linear layer for a billion classes, which takes a few bytes in a file."""
    return {"fc.weight": torch.zeros(1).expand(10**9, 512), "fc.bias": torch.zeros(1).expand(10**9)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), "no network that is known"),
        (lambda state: state.update({"fc.bias": torch.zeros(CLASSES + 1)}), "no network that is known"),
        (lambda state: state.pop("layer4.1.bn2.running_var"), "no network that is known"),
        (lambda state: state["layer2.0.conv1.weight"].view(-1)[3].fill_(torch.nan), "layer2.0.conv1.weight is not"),
        (lambda state: state["fc.weight"].view(-1)[3].fill_(torch.inf), "fc.weight is not"),
        (lambda state: state.update({"fc.bias": torch.zeros(1).expand(CLASSES)}), "does not hold all of fc.bias"),
        (lambda state: state.update(huge_head()), "does not hold all of fc.weight"),
        (lambda state: state.update({"bn1.bias": torch.zeros(64, dtype=torch.int32)}), "does not hold all of bn1.bias"),
        (lambda state: state.clear(), "no state dict"),
    ],
)
def test_wrong_sizes_and_numbers_are_refused_in_one_sentence(
    change: Callable[[dict[str, Tensor]], object], told: str, tmp_path: Path
) -> None:
    state = torchvision_network(18, "7x7").state_dict()
    change(state)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(UserError, match=told) as refused:
        read_foreign(tmp_path / "model.pth")
    assert "\n" not in str(refused.value)


def test_a_network_whose_widths_follow_no_rule_is_told_by_where_it_differs(tmp_path: Path) -> None:
    narrow = CifarNetwork((2, 2, 2, 2)).state_dict()
    narrow["layer4.1.conv2.weight"] = torch.zeros(100, 512, 3, 3)
    torch.save({"net": narrow}, tmp_path / "model.pt")
    told = (
        r"those of a resnet18 as pytorch-cifar names it, but layer4.1.conv2.weight is \(100, 512, 3, 3\), "
        r"there \(512, 512, 3, 3\)\)"
    )
    with pytest.raises(UserError, match=told):
        read_foreign(tmp_path / "model.pt")


def test_the_architecture_that_is_given_is_the_only_one_taken(tmp_path: Path) -> None:
    torch.save(torchvision_network(18, "3x3").state_dict(), tmp_path / "model.pt")
    assert len(read_foreign(tmp_path / "model.pt").match.architectures) == 2
    given = ClassifierSettings(architecture="resnet18_3x3_maxpool")
    assert read_foreign(tmp_path / "model.pt", given).match.architectures == ("resnet18_3x3_maxpool",)
    with pytest.raises(UserError, match=r"holds no resnet34, which .* names, but a resnet18 or resnet18_3x3_maxpool"):
        read_foreign(tmp_path / "model.pt", ClassifierSettings(architecture="resnet34"))


def test_a_run_with_a_model_file_takes_what_the_file_holds_unless_it_is_told() -> None:
    changes: dict[str, object] = {"weights": "model.pth", "dataset": "digits"}
    assert config_for("demo", changes, DefenseConfig).classifier.architecture == "auto"
    changes["classifier"] = {"architecture": "resnet34"}
    assert config_for("demo", changes, DefenseConfig).classifier.architecture == "resnet34"


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("build", [CifarNetwork, HuggingFaceNetwork])
@pytest.mark.slow
def test_a_model_is_written_back_as_it_came(build: Callable[..., nn.Module], prefix: str, tmp_path: Path) -> None:
    network = build((2, 2, 2, 2)) if build is CifarNetwork else build()
    state = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    head = next(name for name in reversed(state) if name.endswith(".weight"))
    state[head] = state[head].half()
    torch.save({"net": state}, tmp_path / "model.pth")
    foreign = read_foreign(tmp_path / "model.pth")
    settings = ClassifierSettings(architecture=foreign.match.architectures[0], normalisation="identity")
    classifier = foreign.classifier(settings, torch.zeros(1))
    same = foreign.rewritten(classifier)
    assert list(same) == list(state) and all(torch.equal(same[name], state[name]) for name in state)
    assert all(same[name].dtype == state[name].dtype for name in state)
    with torch.no_grad():
        for tensor in classifier.network.parameters():
            tensor.add_(1)
    changed = foreign.rewritten(classifier)
    assert torch.equal(changed[head], state[head] + 1)
    assert sum(name.endswith("num_batches_tracked") for name in changed) == 20


def test_a_network_of_ones_own_is_read_by_its_own_names(tmp_path: Path) -> None:
    register_architecture(
        "one_layer", lambda settings, classes: nn.Sequential(nn.Flatten(), nn.Linear(settings.width, classes))
    )
    settings = ClassifierSettings(architecture="one_layer", width=4)
    torch.save(build_network(settings, 3).state_dict(), tmp_path / "own.pt")
    match = read_foreign(tmp_path / "own.pt", settings, 3).match
    assert (match.dialect, match.architectures, match.classes) == ("untrigger", ("one_layer",), 3)
    assert read_foreign(tmp_path / "own.pt", settings).match.classes == 3, "the last layer tells"
    for width, classes, told in (
        (5, 3, r"\(3, 4\) in the file and \(3, 5\)"),
        (4, 10, r"\(3, 4\) in the file and \(10, 4\)"),
    ):
        with pytest.raises(UserError, match=rf"holds no one_layer, which .* names: 1.weight is {told} in that network"):
            read_foreign(tmp_path / "own.pt", settings.model_copy(update={"width": width}), classes)


def test_a_small_network_says_itself_for_how_many_classes_it_is(tmp_path: Path) -> None:
    settings = ClassifierSettings(architecture="small_resnet", width=4)
    torch.save({"net": build_network(settings, 3).state_dict()}, tmp_path / "own.pt")
    match = read_foreign(tmp_path / "own.pt", settings, 10).match
    assert (match.architectures, match.classes) == (("small_resnet",), 3)
