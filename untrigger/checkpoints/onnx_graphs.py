"""The network in an ONNX file: parsed, and built anew of our own layers; of the file nothing is run.

A backdoor may sit in the graph itself, so the graph is kept as it is. No converter to PyTorch is well kept; those few
operators that small image classifiers consist of are translated here, and all others refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from untrigger.checkpoints.dialects import Match
from untrigger.errors import UserError
from untrigger.networks.graph_network import IMAGES, GraphNetwork, Layer, NetworkGraph

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

ARCHITECTURE = "onnx"
"""What the network of a graph is called, where others have the name of their architecture."""

USUAL_SIZE = 32
"""Height and width of the images that a graph is tried with where it takes any."""

EXPORT = "torch.onnx.export(model, (images,), FILE, external_data=False)"


def read_onnx(path: Path) -> Match:
    """The network in the ONNX file at `path`, its tensors by the names of our layers.

    Raises UserError, in one sentence, when the file is damaged, keeps weights in other files, or has operators beside
    those of small image classifiers.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise UserError(f"{path} needs the package onnx to be read: pip install 'untrigger[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
        made = _Translation(path, model.graph)
        if model.functions or any(each.domain not in ("", "ai.onnx") for each in model.opset_import):
            raise made.refusal("operators of its own")
        graph = made.translated()
        classes = _classes(made, graph)
    except UserError:
        raise
    except Exception as error:  # a damaged or hostile file may fail in any way
        reason = " ".join(str(error).split(". ")[0].split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as a network in ONNX, it is damaged: {reason}") from error
    return Match("ONNX", (ARCHITECTURE,), classes, made.state, {}, graph)


def write_onnx(source: Path, state: Mapping[str, Tensor], target: Path) -> Path:
    """Write the graph in `source`, an ONNX file that was read, with the tensors in `state` by the names of our layers.

    A tensor that several layers shared is one for each of them then.
    """
    import onnx
    from onnx.numpy_helper import from_array

    model = onnx.load(str(source), load_external_data=False)
    made = _Translation(source, model.graph)
    made.translated()
    for name, (node, number) in made.places.items():
        kind = made.constant(node, number).dtype
        node.input[number] = f"retrained.{name}"
        model.graph.initializer.append(from_array(state[name].to("cpu", kind).numpy(), node.input[number]))
    used = {value for node in model.graph.node for value in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(model.SerializeToString())
    return partial.replace(target)


def _classes(made: _Translation, graph: NetworkGraph) -> int:
    """How many logits the network gives, tried on two images, at first on a device that only counts."""
    try:
        with torch.device("meta"):
            GraphNetwork(graph).eval()(torch.empty(2, 3, *made.size))
        network = GraphNetwork(graph)
    except UserError as error:
        raise UserError(f"{made.path}: {error}") from error
    network.load_state_dict(made.state, strict=False)
    with torch.inference_mode():
        logits = network.eval()(torch.rand(2, 3, *made.size, generator=torch.Generator().manual_seed(0)))
    if logits.ndim != 2 or len(logits) != 2:
        raise made.refusal(f"an output of the shape {tuple(logits.shape)} for two images")
    return int(logits.shape[1])


class _Translation:
    """The layers of a graph as far as they are translated, and the tensors that they have."""

    def __init__(self, path: Path, graph: GraphProto) -> None:
        self.path, self.graph = path, graph
        self.constants = {each.name: self._tensor(each) for each in graph.initializer}
        self.layers: list[Layer] = []
        self.state: dict[str, Tensor] = {}
        self.places: dict[str, tuple[NodeProto, int]] = {}
        """Which input of which node each tensor is that training may change."""
        inputs = [each for each in graph.input if each.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1 or graph.sparse_initializer:
            raise self.refusal(f"{len(inputs)} inputs and {len(graph.output)} outputs, or sparse weights")
        self.values = {inputs[0].name: IMAGES}
        """The layer that each value of the graph is the output of."""
        self.uses = Counter(value for node in graph.node for value in node.input)
        shape = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        if len(shape) != 4 or shape[1] not in (0, 3) or max(shape[2:]) > 1024:
            raise self.refusal(f"an input of the shape {tuple(shape)}, which no RGB images have")
        self.size = (shape[2] or USUAL_SIZE, shape[3] or USUAL_SIZE)

    def refusal(self, what: str) -> UserError:
        return UserError(
            f"{self.path} has {what}: only graphs of {', '.join(_TRANSLATIONS)} are read; save the state dict alone, "
            "torch.save(model.state_dict(), FILE)"
        )

    def translated(self) -> NetworkGraph:
        """The whole graph; its last layer is the output."""
        for node in self.graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in _TRANSLATIONS or len(node.output) != 1:
                raise self.refusal(f"the operator {node.domain + '.' if node.domain else ''}{node.op_type}")
            _TRANSLATIONS[node.op_type](self, node)
        output = self.values.get(self.graph.output[0].name)
        if not self.layers or output != self.layers[-1].name:
            raise self.refusal("layers that come after its output")
        return NetworkGraph.of({"layers": self.layers}, str(self.path))

    def add(self, node: NodeProto, kind: str, inputs: Sequence[str], name: str = "", **options: Any) -> str:
        """Add a layer that takes these values of the graph; its name, numbered where it has no number."""
        name = name if name[-1:].isdigit() else f"{name or kind}{len(self.layers) + 1}"
        taken = []
        for value in inputs:
            if value not in self.values:
                raise self.refusal(f"the {node.op_type} of {value!r}, which no layer before it gives")
            taken.append(self.values[value])
        self.layers.append(Layer.of({"name": name, "kind": kind, "inputs": taken, "options": options}, str(self.path)))
        self.values[node.output[0]] = name
        return name

    def constant(self, node: NodeProto, number: int) -> Tensor:
        """The input of this number, which must be a constant."""
        name = node.input[number] if number < len(node.input) else ""
        if name not in self.constants:
            raise self.refusal(f"the {node.op_type} {node.name!r} without constants")
        return self.constants[name]

    def keep(self, layer: str, node: NodeProto, names: Sequence[str], first: int = 1) -> None:
        """Take the constants of a node, from the number `first` on, as tensors of a layer by these names."""
        for number, name in enumerate(names, start=first):
            self.state[f"{layer}.{name}"] = self.constant(node, number)
            self.places[f"{layer}.{name}"] = node, number

    def attributes(self, node: NodeProto, **known: Any) -> dict[str, Any]:
        """The node's attributes over the values in `known`; what is not known is refused."""
        from onnx.helper import get_attribute_value

        given = {each.name: get_attribute_value(each) for each in node.attribute}
        if unknown := given.keys() - known.keys():
            raise self.refusal(f"a {node.op_type} with {', '.join(sorted(unknown))}")
        return {**known, **given}

    def window(self, node: NodeProto, kernel: Sequence[int], **known: Any) -> dict[str, Any]:
        """The attributes of a convolution or a pool as torch calls them."""
        told = self.attributes(
            node, kernel_shape=list(kernel), strides=[1, 1], pads=[0, 0, 0, 0], auto_pad=b"NOTSET", **known
        )
        top, left, bottom, right = told.pop("pads")
        if told.pop("auto_pad") != b"NOTSET" or (top, left) != (bottom, right):
            raise self.refusal(f"a {node.op_type} with padding that differs from side to side")
        return {
            "kernel_size": tuple(told.pop("kernel_shape")),
            "stride": tuple(told.pop("strides")),
            "padding": (top, left),
            **told,
        }

    def _tensor(self, found: TensorProto) -> Tensor:
        from onnx import TensorProto
        from onnx.numpy_helper import to_array

        if found.data_location == TensorProto.EXTERNAL:
            raise UserError(f"{self.path} keeps {found.name} in another file: save all in one, {EXPORT}")
        return torch.from_numpy(to_array(found).copy())


def _convolution(made: _Translation, node: NodeProto) -> None:
    weight = made.constant(node, 1)
    told = made.window(node, weight.shape[2:], dilations=[1, 1], group=1)
    options = {
        "in_channels": weight.shape[1] * told["group"],
        "out_channels": len(weight),
        "groups": told.pop("group"),
        "dilation": tuple(told.pop("dilations")),
        "bias": len(node.input) > 2,
    }
    name = made.add(node, "convolution", node.input[:1], f"{_beside(told)}conv", **options, **told)
    made.keep(name, node, ("weight", "bias")[: len(node.input) - 1])


def _beside(told: Mapping[str, Any]) -> str:
    """How the names of 1x1 layers begin: they are beside the path of the image as a rule.

    So frozen copies, which check it, take fast ways.
    """
    return "downsample_" if told["kernel_size"] == (1, 1) else ""


def _norm(made: _Translation, node: NodeProto) -> None:
    told = made.attributes(node, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1)
    if told["training_mode"]:
        raise made.refusal("a BatchNormalization in training mode")
    options = {"num_features": len(made.constant(node, 1)), "eps": told["epsilon"], "momentum": 1 - told["momentum"]}
    before = made.values.get(node.input[0], "")
    # Named as the convolution that alone it follows, a norm is folded into it in frozen copies.
    folded = "conv" in before and made.uses[node.input[0]] == 1
    name = made.add(node, "norm", node.input[:1], before.replace("conv", "bn") if folded else "bn", **options)
    made.keep(name, node, ("weight", "bias", "running_mean", "running_var"))


def _linear(made: _Translation, node: NodeProto) -> None:
    told = made.attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    if (told["alpha"], told["beta"], told["transA"], told["transB"]) != (1.0, 1.0, 0, 1):
        raise made.refusal("a Gemm that is no linear layer of torch")
    outputs, inputs = made.constant(node, 1).shape
    bias = len(node.input) > 2
    name = made.add(node, "linear", node.input[:1], "fc", in_features=inputs, out_features=outputs, bias=bias)
    made.keep(name, node, ("weight", "bias")[: len(node.input) - 1])


def _max_pool(made: _Translation, node: NodeProto) -> None:
    told = made.window(node, (), ceil_mode=0, dilations=[1, 1], storage_order=0)
    del told["storage_order"]  # of the indices, which are no output here
    dilation, ceil = tuple(told.pop("dilations")), bool(told.pop("ceil_mode"))
    made.add(node, "max_pool", node.input, dilation=dilation, ceil_mode=ceil, **told)


def _average_pool(made: _Translation, node: NodeProto) -> None:
    told = made.window(node, (), ceil_mode=0, count_include_pad=0, dilations=[1, 1])
    if told.pop("dilations") != [1, 1]:
        raise made.refusal("an AveragePool with dilations")
    ceil, padded = bool(told.pop("ceil_mode")), bool(told.pop("count_include_pad"))
    name = f"{_beside(told)}average_pool"
    made.add(node, "average_pool", node.input, name, ceil_mode=ceil, count_include_pad=padded, **told)


def _mean(made: _Translation, node: NodeProto) -> None:
    told = made.attributes(node, axes=None, keepdims=1, noop_with_empty_axes=0)
    axes = told["axes"] if len(node.input) == 1 else made.constant(node, 1).tolist()
    if sorted(axis % 4 for axis in axes or ()) != [2, 3]:
        raise made.refusal("a ReduceMean over other axes than height and width")
    made.add(node, "global_pool", node.input[:1])
    if not told["keepdims"]:
        made.add(node, "flatten", node.output)


def _flatten(made: _Translation, node: NodeProto) -> None:
    if made.attributes(node, axis=1)["axis"] != 1:
        raise made.refusal("a Flatten of other axes than all but the first")
    made.add(node, "flatten", node.input)


def _reshape(made: _Translation, node: NodeProto) -> None:
    """One that flattens; whether it gives as many features as it says, the linear layer behind it tells."""
    made.attributes(node, allowzero=0)
    if len(made.constant(node, 1)) != 2:
        raise made.refusal("a Reshape to other than one row per image")
    made.add(node, "flatten", node.input[:1])


def _relu(made: _Translation, node: NodeProto) -> None:
    made.attributes(node)
    made.add(node, "relu", node.input)


def _global_pool(made: _Translation, node: NodeProto) -> None:
    made.attributes(node)
    made.add(node, "global_pool", node.input)


def _constant(made: _Translation, node: NodeProto) -> None:
    value = made.attributes(node, value=None)["value"]
    if value is None:
        raise made.refusal("a Constant that is no tensor")
    made.constants[node.output[0]] = made._tensor(value)


def _identity(made: _Translation, node: NodeProto) -> None:
    taken, given = node.input[0], node.output[0]
    if taken in made.constants:
        made.constants[given] = made.constants[taken]
    if taken in made.values:
        made.values[given] = made.values[taken]


def _arithmetic(made: _Translation, node: NodeProto) -> None:
    """The sum of two layers, or a constant per channel that is added, subtracted, multiplied or divided by."""
    made.attributes(node)
    first, second = node.input
    if node.op_type == "Add" and first in made.values and second in made.values:
        made.add(node, "add", node.input)
        return
    if first in made.constants and node.op_type in ("Add", "Mul"):
        first, second = second, first
    if second not in made.constants:
        raise made.refusal(f"the {node.op_type} of two layers")
    number = made.constants[second].double()
    if number.numel() > 1 and tuple(number.shape[-3:]) != (number.numel(), 1, 1):
        raise made.refusal(f"the {node.op_type} with a constant of the shape {tuple(number.shape)}")
    number = number.reshape(-1, 1, 1)
    scale = {"Mul": number, "Div": 1 / number}.get(node.op_type, torch.ones_like(number))
    shift = {"Add": number, "Sub": -number}.get(node.op_type, torch.zeros_like(number))
    name = made.add(node, "affine", (first,), channels=len(number))
    made.state |= {f"{name}.scale": scale.float(), f"{name}.shift": shift.float()}


_TRANSLATIONS: dict[str, Callable[[_Translation, NodeProto], None]] = {
    "Conv": _convolution,
    "BatchNormalization": _norm,
    "Relu": _relu,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "ReduceMean": _mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Gemm": _linear,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Identity": _identity,
    "Constant": _constant,
}
