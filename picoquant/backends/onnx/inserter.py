"""Put QuantizeLinear and DequantizeLinear into an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, make_node


def round_tensor(
    graph: Graph,
    name: str,
    scale: float,
    zero_point: np.generic,
    read_scale: float | None = None,
    ends: tuple[int, int] | None = None,
) -> None:
    """Quantise a tensor and scale it back, for all that takes it; an output of the graph keeps its name.

    Args:
        graph: changed in place.
        name: of a tensor, whose users are those of now.
        scale: value of one step where the tensor is made.
        zero_point: the integer for 0, uint8 or int8, which are the integers' type.
        read_scale: value of one step where it is read; None: the same.
        ends: the lowest and the highest integer that it may have; None: those of the type.
    """
    maker, users = graph.producer(name), graph.users(name)
    source, back = name, f"{name}.back"
    if name in graph.outputs and maker is not None:
        source, back = f"{name}.float", name
        maker.output[list(maker.output).index(name)] = source
        maker.name = source if maker.name == back else maker.name
    if not users and back != name:
        return
    scaling = store_scaling(graph, name, scale, zero_point)
    reading = store_scaling(graph, f"{name}.read", scale if read_scale is None else read_scale, zero_point)
    kind = zero_point.dtype.name
    stored, new = f"{name}.{kind}", []
    rounded = stored if ends is None else f"{name}.rounded"
    new.append(make_node("QuantizeLinear", [source, *scaling], [rounded], rounded))
    if ends is not None:
        limits = [f"{name}.lowest", f"{name}.highest"]
        graph.constants.update(zip(limits, (zero_point.dtype.type(end) for end in ends)))
        new.append(make_node("Clip", [rounded, *limits], [stored], stored))
    new.append(make_node("DequantizeLinear", [stored, *reading], [back], back))
    for user in users:
        replace_input(user, name, back)
    place = 0 if maker is None else 1 + next(i for i, node in enumerate(graph.nodes) if node is maker)
    graph.nodes[place:place] = new


def store_scaling(graph: Graph, name: str, scale: float, zero_point: np.generic) -> list[str]:
    """Store a scale and a zero point; returns their names."""
    graph.constants[f"{name}.scale"] = np.array(scale, np.float32)
    graph.constants[f"{name}.zero"] = np.array(zero_point, zero_point.dtype)
    return [f"{name}.scale", f"{name}.zero"]


def store_constant(
    graph: Graph, node: Node, name: str, integers: np.ndarray, scale: float, zero: Any
) -> None:
    """Store a constant that a node takes as integers of its own."""
    stem = f"{name}.constant"
    stored = f"{stem}.{zero.dtype.name}"
    graph.constants[stored] = integers.astype(zero.dtype)
    inputs = [stored, *store_scaling(graph, stem, scale, zero)]
    graph.insert_before(node, [make_node("DequantizeLinear", inputs, [f"{node.name}.{stem}"])])
    replace_input(node, name, f"{node.name}.{stem}")


def store_integers(
    graph: Graph, node: Node, name: str, integers: np.ndarray, scales: np.ndarray, axis: int
) -> str:
    """Store integers, and insert what scales them back before `node`.

    Args:
        graph: changed in place.
        node: that takes them.
        name: what they are called.
        integers: int8 or int32.
        scales: `[channels]`, or `[1]` with `axis` -1.
        axis: of the channels.

    Returns: name of the values.
    """
    per_channel = axis >= 0
    values = scales.astype(np.float32) if per_channel else np.float32(scales[0])
    graph.constants[f"{name}.levels"] = integers
    graph.constants[f"{name}.scale"] = np.asarray(values)
    axes = {"axis": axis} if per_channel else {}
    inputs = [f"{name}.levels", f"{name}.scale"]
    if integers.dtype == np.int8:
        # 0, which is the default; ONNX Runtime's exact way on x86 without VNNI needs it written, a value a scale.
        inputs.append(f"{name}.zero")
        graph.constants[inputs[-1]] = np.zeros(np.shape(values), np.int8)
    graph.insert_before(node, [make_node("DequantizeLinear", inputs, [name], name, **axes)])
    return name


def replace_input(node: Node, old: str, new: str) -> None:
    """Let a node take another tensor."""
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
