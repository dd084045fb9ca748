"""An ONNX graph that can be edited: constants as arrays, who makes and who uses what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import numpy_helper


class Graph:
    """An ONNX graph with its constants as arrays.

    Attributes:
        model: the `onnx.ModelProto`, out of date until `finish`.
        nodes: in an order that computes; each has a name, at first that of its first result.
        constants: arrays by name.
        inputs, outputs: names.
        shapes: of the tensors in `model`, by name, where they are known.
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
                node.name = node.output[0]
                self.nodes.append(node)
        self.inputs = [item.name for item in graph.input if item.name not in self.constants]
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        self.shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }
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
        """The model with these nodes and the constants that they use.

        Shapes of inner tensors are left out: any reader infers them, and they are 37 kB of PicoDet-S-NPU.

        Raises: `onnx.shape_inference.InferenceError` when shapes do not fit.
        """
        graph = self.model.graph
        used = {name for node in self.nodes for name in node.input} | set(self.outputs)
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        for name in sorted(used & set(self.constants)):
            graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
        onnx.shape_inference.infer_shapes(self.model, check_type=True, strict_mode=True, data_prop=True)
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
