"""What OpenVINO computes faster in another form, with the same integers.

It makes one kernel of operators that follow each other on single values, and another of each rounding that it cannot
join to a convolution.
"""

from __future__ import annotations

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, make_node
from picoquant.backends.onnx.inserter import replace_input
from picoquant.backends.onnx.quant_params import moves


def gates_apart(graph: Graph) -> list[str]:
    """Compute a sigmoid of one number a channel in another shape than the product behind it has.

    In one kernel with the product the sigmoid of a channel would be computed again for each of its places.

    Args:
        graph: with quantised tensors.

    Returns: the sigmoids' results.
    """
    done = []
    for node in [node for node in graph.nodes if node.op_type == "Sigmoid"]:
        shape = graph.shapes.get(node.output[0], [])
        ends = _pair_behind(graph, node.output[0])
        if len(shape) != 4 or shape[0] != 1 or shape[2:] != [1, 1] or shape[1] < 2 or ends is None:
            continue
        back, name = ends[1], node.output[0]
        if back.output[0] in graph.outputs:
            continue
        graph.constants[f"{name}.flat"] = np.array([1, shape[1]])
        graph.constants[f"{name}.shape"] = np.array(shape)
        before = make_node("Reshape", [node.input[0], f"{name}.flat"], [f"{name}.before"], f"{name}.before")
        graph.insert_before(node, [before])
        node.input[0] = before.output[0]
        for user in graph.users(back.output[0]):
            replace_input(user, back.output[0], f"{name}.behind")
        graph.insert_after(
            back,
            make_node("Reshape", [back.output[0], f"{name}.shape"], [f"{name}.behind"], f"{name}.behind"),
        )
        done.append(name)
    return done


def _pair_behind(graph: Graph, name: str) -> tuple[Node, Node] | None:
    """The QuantizeLinear that alone takes a tensor, and the DequantizeLinear that alone takes its result."""
    found = []
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        users = graph.users(name)
        if len(users) != 1 or users[0].op_type != kind or name in graph.outputs:
            return None
        found.append(users[0])
        name = users[0].output[0]
    return found[0], found[1]


def drop_idle_rounding(graph: Graph) -> list[str]:
    """Round nothing again that only moved since it was rounded with the same numbers.

    Such a rounding behind a resizing or a concatenation changes no value and takes a kernel of its own.

    Args:
        graph: with quantised tensors.

    Returns: the tensors that are not rounded again.
    """
    done: list[str] = []
    rounded: dict[str, tuple[bytes, ...] | None] = {}
    for node in list(graph.nodes):
        if node.op_type == "DequantizeLinear":
            rounded[node.output[0]] = _numbers(graph, node)
            continue
        taken = {rounded.get(name) for name in node.input if name not in graph.constants}
        if (node.op_type != "Concat" and not moves(node)) or len(taken) != 1 or None in taken:
            continue
        for name in node.output:
            rounded[name] = next(iter(taken))
            pair = _pair_behind(graph, name)
            if pair is None or pair[1].output[0] in graph.outputs:
                continue
            if {_numbers(graph, one) for one in pair} != taken:
                continue
            for user in graph.users(pair[1].output[0]):
                replace_input(user, pair[1].output[0], name)
            for one in pair:
                graph.remove(one)
            done.append(name)
    return done


def _numbers(graph: Graph, node: Node) -> tuple[bytes, ...] | None:
    """Scale and zero point with which a node rounds or scales back a tensor, as bytes; None of those not constant."""
    if len(node.input) != 3 or not all(name in graph.constants for name in node.input[1:]):
        return None
    return tuple(graph.constants[name].tobytes() for name in node.input[1:])
