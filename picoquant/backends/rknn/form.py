"""An INT8 network as the ONNX that rknn-toolkit2 builds without changing a scale.

It is plain QDQ (`backends/onnx/plain.py`) with what the toolkit's import of QDQ needs (2.5.0, docs/rknn.md):

- What has zero point 0 everywhere is taken for symmetric: the range of its integers, -128 to 127, makes a scale of the
  toolkit's own, larger by 128/127. So scales of tensors are written smaller by 127/128. With another zero point scales
  stay as they are.
- So do those of weights, whose values the toolkit rounds with its own scale: they are stored less 1 with zero point -1,
  and keep scales and integers.
- A bias without zero point ends its import with an IndexError.
- What only moves values behind the last convolutions takes the toolkit a minute to get wrong. So outputs are those of
  the convolutions, `[1, C, H, W]`, and who runs the file brings them to `[1, H * W, C]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from picoquant.backends.base import Tensors
from picoquant.backends.onnx.graph import Graph, Node
from picoquant.backends.onnx.plain import make_plain_onnx
from picoquant.backends.onnx.qdq import checked
from picoquant.errors import ToolError, WeightsError
from picoquant.int8.network import Int8Network

OUTPUTS, PLATFORM, SHA256 = "picoquant.outputs", "picoquant.platform", "picoquant.rknn_sha256"  # metadata
_AS_FULL_RANGE = np.float64(127) / 128
_LOWEST = -128
_MOVES = ("Reshape", "Transpose")
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


def make_form(network: Int8Network, platform: str) -> Any:
    """Make the ONNX model, in whose metadata stand the outputs as Paddle has them and the platform.

    Args:
        network: for one image; every tensor has a range.
        platform: see `platforms`.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` as `make_plain_onnx`, and for weights that it cannot hold.
    """
    graph = Graph(make_plain_onnx(network, "int8"))
    described = [[name, graph.shapes[name]] for name in graph.outputs]
    _write_zero_points(graph)
    _shrink_scales(graph)
    _cut(graph)
    made = checked(graph)
    onnx.helper.set_model_props(made, {OUTPUTS: json.dumps(described), PLATFORM: platform})
    return made


def properties(model: Any, where: str) -> tuple[Tensors, str, str]:
    """Outputs as Paddle has them, platform, and the SHA-256 of the `.rknn` that was built; of `make_form`'s model.

    Raises: `WeightsError` naming the file when it is another model.
    """
    values = {item.key: item.value for item in model.metadata_props}
    try:
        outputs = tuple((str(name), tuple(map(int, shape))) for name, shape in json.loads(values[OUTPUTS]))
        return outputs, values[PLATFORM], values[SHA256]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{where} is not the ONNX that an .rknn was built from: export it again"
        ) from error


def as_paddle_has_them(values: Sequence[np.ndarray], outputs: Tensors) -> list[np.ndarray]:
    """Results of the network, maps `[1, C, H, W]` among them, with the shapes of `outputs`."""
    found = []
    for value, (_, shape) in zip(values, outputs):
        is_map = value.ndim == 4 and len(shape) == 3
        found.append(value.reshape(*value.shape[:2], -1).transpose(0, 2, 1) if is_map else value)
    return found


def _write_zero_points(graph: Graph) -> None:
    """Integers of constants get a zero point: int8 another than 0, with the integers shifted by it.

    Raises: `ToolError` for a weight with both -128 and 127, which cannot be shifted.
    """
    for node in graph.nodes:
        if node.op_type != _DEQUANTISE or node.input[0] not in graph.constants:
            continue
        name, scale = node.input[:2]
        integers, zero = graph.constants[name].astype(np.int64), f"{name}.zero"
        shift = 0
        if graph.constants[name].dtype == np.int8:
            zero_points = graph.constants[node.input[2]] if len(node.input) > 2 else np.zeros(1, np.int8)
            if zero_points.any():
                continue
            shift = -1 if integers.min() > _LOWEST else 1
            if (integers + shift).max() > -_LOWEST - 1:
                raise ToolError(
                    f"weight {name} has integers from -128 to 127, which rknn-toolkit2 rounds again: quantise with "
                    "symmetric weights"
                )
        stored = graph.constants[name].dtype
        graph.constants[name] = (integers + shift).astype(stored)
        graph.constants[zero] = np.full(graph.constants[scale].shape, shift, stored)
        node.input = [name, scale, zero]


def _shrink_scales(graph: Graph) -> None:
    """The scales of tensors with zero point 0, each once."""
    names = {
        node.input[1]
        for node in graph.nodes
        if node.op_type in (_QUANTISE, _DEQUANTISE)
        and node.input[0] not in graph.constants
        and not graph.constants[node.input[2]].any()
    }
    for name in names:
        graph.constants[name] = (graph.constants[name].astype(np.float64) * _AS_FULL_RANGE).astype(np.float32)


def _cut(graph: Graph) -> None:
    """Let the outputs be maps, where only a reshape and a transpose of one scale lie between."""
    ends = [_map_behind(graph, name) or name for name in graph.outputs]
    if len(set(ends)) < len(ends):
        return  # two outputs of one map
    graph.outputs = ends
    described = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, graph.shapes[name]) for name in ends
    ]
    del graph.model.graph.output[:]
    graph.model.graph.output.extend(described)
    needed, kept = set(ends), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    graph.nodes = kept[::-1]


def _map_behind(graph: Graph, name: str) -> str | None:
    """The tensor `[1, C, H, W]` of which an output `[1, H * W, C]` is another view; None: there is none."""
    moves: list[str] = []
    tensor, scales = name, set()
    while (maker := graph.producer(tensor)) is not None:
        if maker.op_type == _DEQUANTISE:
            quantiser = graph.producer(maker.input[0])
            if quantiser is None or quantiser.op_type != _QUANTISE:
                return None
            scales |= {float(graph.constants[one.input[1]]) for one in (maker, quantiser)}
            if not _is_move(graph.producer(quantiser.input[0])):
                break
            tensor = quantiser.input[0]
        elif _is_move(maker):
            moves.append(maker.op_type)
            tensor = maker.input[0]
        else:
            return None
    shape, wanted = graph.shapes.get(tensor, []), graph.shapes[name]
    if len(scales) != 1 or moves != ["Transpose", "Reshape"] or len(shape) != 4:
        return None
    return tensor if wanted == [shape[0], shape[2] * shape[3], shape[1]] else None


def _is_move(node: Node | None) -> bool:
    return node is not None and node.op_type in _MOVES
