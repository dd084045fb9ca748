"""Write activations so that ONNX Runtime computes them on integers.

A quantiser saturates: with zero point 0, uint8 holds nothing below 0, so relu needs no node of its own, nor
does the lower end of relu6; its upper end is a Clip of bytes. A hard sigmoid, clip(slope * x + offset, 0, 1),
is a sum whose quantiser saturates at both ends: one QLinearAdd, or part of the convolution before it where
nothing rounds that one's result. A hard-swish is that sum times x.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node

_SIXTH = 1.0 / 6.0
_CLOSE = 1e-4  # paddle writes slopes as 0.1666667 or 0.16666666


def join_hard_swish(graph: Graph) -> None:
    """Turn hard-swish, in each form that paddle2onnx gives it, into one HardSwish."""
    for clip in [node for node in graph.nodes if node.op_type == "Clip"]:
        found = _written_out(graph, clip)
        if found:
            last = found[-1]
            inputs, outputs = [found[0].input[0]], list(last.output)
            graph.insert_before(last, [make_node("HardSwish", inputs, outputs, last.name)])
            for node in found:
                graph.remove(node)


def split_hard_swish(graph: Graph, but: Container[str] = ()) -> None:
    """Turn each HardSwish into x * HardSigmoid(x).

    Args:
        graph: changed in place.
        but: results of those that stay whole.
    """
    for node in [node for node in graph.nodes if node.op_type == "HardSwish"]:
        x, output = node.input[0], node.output[0]
        if output in but:
            continue
        gate = f"{output}.gate"
        sigmoid = make_node("HardSigmoid", [x], [gate], alpha=_SIXTH, beta=0.5)
        graph.insert_before(node, [sigmoid, make_node("Mul", [x, gate], [output])])
        graph.remove(node)


def _written_out(graph: Graph, clip: Node) -> list[Node] | None:
    """The nodes of x * clip(x + 3, 0, 6) / 6, Add first and the one with the result last."""
    add = graph.producer(clip.input[0])
    if add is None or add.op_type != "Add" or _bounds(graph, clip) != (0.0, 6.0):
        return None
    x = next((name for name in add.input if name not in graph.constants), None)
    if x is None or _constant(graph, add) != 3.0 or add.input[0] != x:
        return None
    chain = [add, clip]
    multiplied = False
    scaled = 1.0
    while not (multiplied and abs(scaled - _SIXTH) < _CLOSE):
        users = graph.users(chain[-1].output[0])
        if len(users) != 1 or users[0].op_type not in ("Mul", "Div") or len(chain) > 4:
            return None
        constant = _constant(graph, users[0])
        if constant is not None and constant != 0:
            scaled *= 1 / constant if users[0].op_type == "Div" else constant
        elif x in users[0].input and users[0].op_type == "Mul":
            multiplied = True
        else:
            return None
        chain.append(users[0])
    return chain


def hard_sigmoids(
    graph: Graph, factors: dict[str, np.ndarray], quantised: Container[str], ranges: Container[str]
) -> dict[str, float]:
    """Make sums of hard sigmoids; the results' quantiser must hold 0 to 1 and saturate.

    Paddle rounds an input that has a range, so it stays a tensor of its own: the results are then Paddle's.

    Args:
        graph: changed in place.
        factors: of each convolution's output channels, by its name; takes the slope of those folded.
        quantised: weights in levels; only their convolutions take a slope.
        ranges: tensors that are rounded.

    Returns: by the name of each result, the value of one: a bare sum is in units of the slope.
    """
    units = {}
    for node in [node for node in graph.nodes if node.op_type == "HardSigmoid"]:
        slope, offset = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        source, output = node.input[0], node.output[0]
        conv = graph.producer(source)
        alone = len(graph.users(source)) == 1 and source not in graph.outputs
        inside = alone and source not in ranges
        if inside and conv is not None and conv.op_type == "Conv" and conv.input[1] in quantised:
            channels = graph.constants[conv.input[1]].shape[0]
            bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(channels)
            graph.constants[f"{output}.bias"] = (bias.astype(np.float64) * slope + offset).astype(np.float32)
            del conv.input[2:]
            conv.input.append(f"{output}.bias")
            factors[conv.name] = factors.get(conv.name, np.ones(channels)) * slope
            conv.output[0] = output
            graph.remove(node)
            units[output] = 1.0
        elif slope > 0:
            graph.constants[f"{output}.offset"] = np.float32([offset / slope])
            add = make_node("Add", [source, f"{output}.offset"], [output])
            graph.insert_before(node, [add])
            graph.remove(node)
            units[output] = float(slope)
    return units


def drop_clips(graph: Graph, ranges: Mapping[str, float], quantised: Container[str]) -> dict[str, float]:
    """Take out Relu and Clip from 0 on whose result's range is known and whose input nothing else uses.

    Args:
        graph: changed in place.
        ranges: largest absolute values, by tensor.
        quantised: weights in levels; what is behind a convolution in float stays, as nothing else limits it.

    Returns: the largest value of what was dropped, by the tensor that must be limited by its levels now; infinite for
        a Relu.
    """
    limits = {}
    for node in [node for node in graph.nodes if node.op_type in ("Relu", "Clip")]:
        lowest, highest = _bounds(graph, node)
        source, output = node.input[0], node.output[0]
        maker = graph.producer(source)
        known = min(highest, ranges.get(output, highest))
        if maker is None or lowest != 0.0 or len(graph.users(source)) != 1 or source in graph.outputs:
            continue
        if not 0 < known < float("inf"):
            continue
        if maker.op_type == "Conv" and maker.input[1] not in quantised:
            continue
        maker.output[list(maker.output).index(source)] = output
        graph.remove(node)
        limits[output] = highest
    return limits


def _bounds(graph: Graph, node: Node) -> tuple[float, float]:
    """Lowest and highest result of a Relu or Clip."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    ends = [-float("inf"), float("inf")]
    for position, name in enumerate(node.input[1:3]):
        if name:
            ends[position] = float(graph.constants[name].reshape(())) if name in graph.constants else np.nan
    return ends[0], ends[1]


def _constant(graph: Graph, node: Node) -> float | None:
    """The one-element constant that a node takes."""
    for name in node.input:
        if name in graph.constants and graph.constants[name].size == 1:
            return float(graph.constants[name].reshape(()))
    return None
