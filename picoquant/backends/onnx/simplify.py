"""Make an ONNX graph small before it is quantised: no copies, no computed constants, biases in convolutions."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx
from onnx import helper

from picoquant.backends.onnx.graph import Graph


def simplify(graph: Graph, known: Container[str]) -> None:
    """Remove copies, compute what is constant, remove what nobody uses, put added constants into biases.

    Args:
        graph: changed in place.
        known: names that tensors keep where they have several.
    """
    remove_identities(graph, known)
    fold_constants(graph)
    remove_unused(graph)
    fold_bias(graph)


def remove_identities(graph: Graph, known: Container[str] = ()) -> None:
    """Take out Identity nodes; of the two names the one in `known` stays, a graph's output always."""
    for node in [node for node in graph.nodes if node.op_type == "Identity"]:
        source, copy = node.input[0], node.output[0]
        if source in graph.constants:
            graph.constants[copy] = graph.constants[source]
            graph.remove(node)
            continue
        if copy in graph.outputs and (graph.producer(source) is None or source in graph.outputs):
            continue  # an input or output that is handed out under a second name
        graph.remove(node)
        keep_copy = copy in graph.outputs or (copy in known and source not in known)
        if keep_copy and graph.producer(source) is not None and source not in graph.outputs:
            rename(graph, source, copy)
        else:
            rename(graph, copy, source)


def rename(graph: Graph, old: str, new: str) -> None:
    """Give a tensor another name, where it is made and wherever it is used."""
    for node in graph.nodes:
        for names in (node.input, node.output):
            if old in names:
                names[:] = [new if name == old else name for name in names]


def fold_constants(graph: Graph) -> None:
    """Compute the nodes all of whose inputs are constants, by onnx's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    opset = graph.model.opset_import
    for node in list(graph.nodes):
        names = [name for name in node.input if name]
        if not names or not all(name in graph.constants for name in names):
            continue
        if any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute):
            continue
        ends = [[helper.make_empty_tensor_value_info(name) for name in ends] for ends in (names, node.output)]
        alone = helper.make_model(helper.make_graph([node.proto()], "alone", *ends), opset_imports=opset)
        values = ReferenceEvaluator(alone).run(None, {name: graph.constants[name] for name in names})
        graph.constants.update(zip(node.output, map(np.asarray, values)))
        graph.remove(node)


def remove_unused(graph: Graph) -> None:
    """Remove nodes none of whose results are used."""
    used = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(name in used for name in node.output):
            kept.append(node)
            used.update(node.input)
    graph.nodes = kept[::-1]


def fold_bias(graph: Graph) -> None:
    """Make a convolution's bias of the constant that is added to its result, one value a channel."""
    for add in [node for node in graph.nodes if node.op_type == "Add"]:
        stored = next((name for name in add.input if name in graph.constants), None)
        computed = next((name for name in add.input if name != stored), None)
        conv = graph.producer(computed) if stored and computed else None
        if conv is None or conv.op_type != "Conv" or len(graph.users(computed)) != 1:
            continue
        if computed in graph.outputs or not all(name in graph.constants for name in conv.input[1:]):
            continue
        channels = graph.constants[conv.input[1]].shape[0]
        value = graph.constants[stored]
        rank = graph.constants[conv.input[1]].ndim
        shape = (1,) * (rank - value.ndim) + value.shape
        if value.ndim > rank or shape not in ((1, channels, *[1] * (rank - 2)), (1,) * rank):
            continue
        bias = np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float32)
        if len(conv.input) > 2:
            bias = bias + graph.constants[conv.input[2]]
        name = f"{add.output[0]}.bias"
        graph.constants[name] = bias
        del conv.input[2:]
        conv.input.append(name)
        conv.output[0] = add.output[0]
        graph.remove(add)


def share_constants(graph: Graph) -> None:
    """Store equal constants once, but for INT8 weights.

    Those ONNX Runtime rewrites on x86 without VNNI, when it is asked to compute exactly, and fails where two operators
    read one (1.31: "Attempt to replace the existing tensor").
    """
    first: dict[tuple, str] = {}
    names = {}
    for name in sorted({name for node in graph.nodes for name in node.input} & set(graph.constants)):
        value = graph.constants[name]
        if value.dtype == np.int8:
            continue
        names[name] = first.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
    for node in graph.nodes:
        for position, name in enumerate(node.input):
            if name in names:
                node.input[position] = names[name]
