"""A few edits of an ONNX graph: constants, who uses what, folding batch-norm into convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


class Graph:
    """An ONNX graph with its constants as arrays.

    Attributes:
        model: the `onnx.ModelProto`, out of date until `finish`.
        nodes: in an order that computes.
        constants: arrays by name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)
        self.outputs = [output.name for output in graph.output]

    def users(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that take a tensor."""
        return [node for node in self.nodes if name in node.input]

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def insert_before(self, node: onnx.NodeProto, new: Iterable[onnx.NodeProto]) -> None:
        """Put nodes where what they compute is ready for `node`."""
        place = next(index for index, other in enumerate(self.nodes) if other is node)
        self.nodes[place:place] = list(new)

    def insert_after(self, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
        """Put a node directly behind `node`."""
        self.nodes.insert(1 + next(i for i, other in enumerate(self.nodes) if other is node), new)

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node out; its outputs must have no users left."""
        self.nodes = [other for other in self.nodes if other is not node]

    def finish(self) -> onnx.ModelProto:
        """The model with these nodes and the constants that they use, shapes inferred anew."""
        graph = self.model.graph
        used = {name for node in self.nodes for name in node.input} | set(self.outputs)
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        for name in sorted(used & set(self.constants)):
            graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
        return onnx.shape_inference.infer_shapes(self.model, check_type=True, data_prop=True)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def fold_batch_norm(graph: Graph) -> dict[str, np.ndarray]:
    """Fold each batch-norm into the convolution before it, whose bias then holds its shift.

    The weights are left as they are: the factor of each output channel is returned instead, for weights
    in levels take it in their scale.

    Returns: factors `[out channels]`, float64, by the name of the convolution's result (which is the
        batch-norm's former result).
    """
    factors = {}
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = graph.producer(norm.input[0])
        alone = len(graph.users(norm.input[0])) == 1 and norm.input[0] not in graph.outputs
        if conv is None or conv.op_type != "Conv" or not alone or len(norm.output) != 1:
            continue
        if not all(name in graph.constants for name in [*norm.input[1:], *conv.input[1:]]):
            continue
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        bias = graph.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        name = f"{norm.output[0]}.bias"
        graph.constants[name] = ((bias - mean) * factor + beta).astype(np.float32)
        del conv.input[2:]
        conv.input.append(name)
        conv.output[0] = norm.output[0]
        graph.remove(norm)
        factors[conv.output[0]] = factor
    return factors
