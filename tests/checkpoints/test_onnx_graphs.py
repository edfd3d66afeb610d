"""A network that was exported to ONNX answers as it did before, and no hostile file does anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.support.foreign_networks import CifarNetwork, CifarVgg, torchvision_network, with_statistics
from untrigger.checkpoints.foreign import ForeignModel, read_foreign
from untrigger.classifiers import frozen, load_classifier, save_classifier
from untrigger.errors import UserError
from untrigger.networks.architectures import build_network
from untrigger.settings.methods import ClassifierSettings

EXACT = ClassifierSettings(architecture="onnx", normalisation="identity", precision="fp32")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Normalising(nn.Module):
    """A network that subtracts and divides before it begins."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.1]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(build_network(ClassifierSettings(architecture="small_resnet", width=4), 3))


def exported(network: nn.Module, path: Path, *, today: bool = False, **how: Any) -> Path:
    """Written by torch's exporter, today's or the one before."""
    told: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False} if today else {"dynamo": False}
    torch.onnx.export(network, (torch.rand(1, 3, 32, 32),), str(path), **{**told, **how})
    return path


def largest_difference(foreign: ForeignModel, network: nn.Module) -> float:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = foreign.classifier(EXACT, torch.zeros(1))(images), network(images)
    return ((found - expected).abs().max() / expected.abs().max()).item()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "small": small_network,
    "normalising": lambda: Normalising(small_network()).eval(),
    "torchvision": lambda: with_statistics(torchvision_network(18, "7x7")),
    "pre-activation": lambda: with_statistics(CifarNetwork((2, 2, 2, 2), preactivated=True)),
    "VGG-11": lambda: with_statistics(CifarVgg(11)),
}


@pytest.mark.slow
@pytest.mark.parametrize("today", [False, True], ids=["before", "today"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_answers_as_it_did(name: str, today: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    foreign = read_foreign(exported(network, tmp_path / "model.onnx", today=today))
    assert (foreign.kind, foreign.match.dialect, foreign.match.architectures) == ("ONNX", "ONNX", ("onnx",))
    assert largest_difference(foreign, network) <= 1e-5


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(small_network(), tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_norms_that_were_not_folded_are_read(tmp_path: Path) -> None:
    network = small_network()
    unfolded: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    path = exported(network, tmp_path / "model.onnx", **unfolded)
    assert largest_difference(read_foreign(path), network) <= 1e-5


def test_its_classifier_is_kept_and_loaded_and_takes_the_fast_paths(file: Path, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    classifier = read_foreign(file).classifier(EXACT, images)
    save_classifier(classifier, tmp_path)
    loaded = load_classifier(tmp_path)
    with torch.inference_mode():
        assert torch.equal(loaded(images), classifier(images))
    assert len(frozen(loaded, images)._windowed_path) == 5


@pytest.mark.parametrize("today", [False, True], ids=["before", "today"])
def test_a_retrained_network_is_written_back_with_its_graph(today: bool, tmp_path: Path) -> None:
    network = Normalising(small_network()).eval()
    foreign = read_foreign(exported(network, tmp_path / "model.onnx", today=today))
    classifier = foreign.classifier(EXACT, torch.zeros(1))
    with torch.no_grad():
        for number, tensor in enumerate(classifier.network.parameters()):
            tensor.add_(0.01 * number)
    written = foreign.write(classifier, tmp_path / "out")
    assert written == tmp_path / "out" / "model.onnx"
    assert largest_difference(read_foreign(written), classifier) <= 1e-6
    before, after = (onnx.load(str(path)).graph for path in (tmp_path / "model.onnx", written))
    assert [each.op_type for each in before.node] == [each.op_type for each in after.node]
    assert list(after.input) == list(before.input) and list(after.output) == list(before.output)
    onnx.checker.check_model(str(written), full_check=True)


def changed(file: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """The same model with a change in it."""
    model = onnx.load(str(file))
    change(model)
    path = folder / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        read_foreign(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)
    return str(refusal.value)


def node(model: Any, operator: str) -> Any:
    return next(each for each in model.graph.node if each.op_type == operator)


def insert(model: Any, operator: str, domain: str = "") -> None:
    """Another operator right before the output."""
    output = model.graph.output[0].name
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node(operator, ["before"], [output], domain=domain))


def set_attribute(found: Any, name: str, value: object) -> None:
    kept = [each for each in found.attribute if each.name != name]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(name, value)])


def replace_weight(model: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weight = next(each for each in model.graph.initializer if each.name == "fc.weight")
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), "fc.weight"))


def to_external(model: Any, place: str) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)


def with_nan(weight: np.ndarray) -> np.ndarray:
    weight[0, 0] = np.nan
    return weight


def claim(model: Any, dimensions: Sequence[int]) -> None:
    weight = model.graph.initializer[0]
    del weight.dims[:]
    weight.dims.extend(dimensions)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: insert(model, "Loop"), "has the operator Loop"),
        (lambda model: insert(model, "If"), "has the operator If"),
        (lambda model: insert(model, "Sigmoid"), "has the operator Sigmoid"),
        (lambda model: insert(model, "Relu", "evil"), "has the operator evil.Relu"),
        (lambda model: model.opset_import.add(domain="evil", version=1), "operators of its own"),
        (lambda model: model.functions.add(name="Relu", domain="evil"), "operators of its own"),
        (lambda model: to_external(model, "/etc/passwd"), "in another file"),
        (lambda model: to_external(model, "model.onnx.data"), "external_data=False"),
        (lambda model: replace_weight(model, with_nan), "are not all finite"),
        (lambda model: replace_weight(model, lambda weight: weight[:, :-1]), "does not take what comes to it"),
        (lambda model: replace_weight(model, lambda weight: weight.astype(np.int32)), "does not hold all of"),
        (lambda model: claim(model, [2**31, 2**31]), "damaged"),
        (lambda model: claim(model, [-1]), "damaged"),
        (lambda model: claim(model, [0]), "damaged"),
        (lambda model: set_attribute(node(model, "Conv"), "pads", [0, 0, 1, 1]), "padding that differs"),
        (lambda model: set_attribute(node(model, "Conv"), "group", 0), "groups must be a positive integer"),
        (lambda model: set_attribute(node(model, "Conv"), "strides", [2**40, 1]), "options"),
        (lambda model: set_attribute(node(model, "Conv"), "pads", [30_000] * 4), "larger than those of any network"),
        (lambda model: set_attribute(node(model, "Gemm"), "alpha", 2.0), "no linear layer"),
        (lambda model: set_attribute(node(model, "Relu"), "backdoor", 1), "a Relu with backdoor"),
        (lambda model: node(model, "Relu").input.__setitem__(0, "nothing"), "which no layer before it gives"),
        (lambda model: model.graph.node[-1].input.__setitem__(0, model.graph.input[0].name), "does not take"),
        (lambda model: model.graph.node.append(model.graph.node[0]), "layers that come after its output"),
        (lambda model: model.graph.input.append(model.graph.output[0]), "2 inputs"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 1), "no RGB images"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 2**40), "no RGB"),
    ],
)
def test_what_is_no_small_classifier_is_refused_in_one_sentence(
    change: Callable[[Any], object], told: str, file: Path, tmp_path: Path
) -> None:
    assert told in refused(changed(file, tmp_path, change))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_file_cut_short_is_refused(share: float, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refused(path)


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("weights")
    refused(path)
    assert "cannot read" in refused(tmp_path / "missing.onnx")
