"""Paddle's operators as ncnn's layers, a function each. ncnn has no batch: axis 0 is the first behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.backends.ncnn.files import Layer, Value, numbers, weights
from picoquant.backends.ncnn.functions import function_layer, refused
from picoquant.backends.ncnn.network import NcnnNetwork
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.paddings import explicit_paddings

_ADD, _MULTIPLY = 0, 2  # of BinaryOp
_VALID = 1  # padding of Pooling: as given
_PERMUTED = {  # order_type of Permute by the axes of the source, in the order of Paddle's transpose
    (0, 1): 0, (1, 0): 1,
    (0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5,
}  # fmt: skip


def layers_of(network: NcnnNetwork, op: Operator) -> list[Layer]:
    """An operator, with what is fused into it.

    Raises: `ToolError` naming one that is not among those that networks exported as raw have.
    """
    write = _WRITERS.get(op.op_type)
    if write is None:
        raise ToolError(
            f"ncnn's files cannot hold {op.op_type} ({op.name}): they take networks exported as raw "
            f"(export.post_process: false) whose operators are among {', '.join(sorted(_WRITERS))}"
        )
    return write(network, op)


def _source(op: Operator) -> str:
    return next(name for slot, name in op.inputs if slot in ("X0", "Input0"))


def _one(kind: str, op: Operator, params: Mapping[int, Value], source: str = "") -> list[Layer]:
    return [Layer(kind, op.name, (source or _source(op),), (op.name,), params)]


def _convolution(network: NcnnNetwork, op: Operator) -> list[Layer]:
    source, fused = _source(op), network.fused[op.name]
    operator, values = network.operators.get(op.name), op.attributes
    weight = np.asarray(network.values[op.input("Filter0") or ""] if operator is None else operator.integers)
    groups, out = values.get("groups") or 1, weight.shape[0]
    depthwise = groups > 1 and out == groups and weight.shape[1] == 1
    if (
        groups > 1 and not depthwise
    ):  # ncnn has one scale a group: zeros between the groups are the same convolution
        weight, groups = _dense(weight, groups), 1
    height, width = network.shape(source)[2:]
    top, bottom, left, right = explicit_paddings(values, weight.shape[2:], (height, width))
    (rows, columns), (down, across) = values["strides"], values.get("dilations") or (1, 1)
    params: dict[int, Value] = {
        0: out, 1: weight.shape[3], 11: weight.shape[2], 2: across, 12: down, 3: columns, 13: rows,
        4: left, 15: right, 14: top, 16: bottom, 5: int(fused.bias is not None), 6: weight.size,
    }  # fmt: skip
    if depthwise:
        params[7] = groups
    factors = np.ones(out) if fused.factors is None else fused.factors
    if operator is None:
        inside = network.behind[source] if depthwise and source in network.behind else 1.0
        weight = weight * (factors * inside).reshape(-1, 1, 1, 1)
    data = weights(weight, network.half)
    if fused.bias is not None:
        data += numbers(network.values[fused.bias] * factors)
    if operator is not None:
        data += numbers(1 / np.maximum(operator.scales * factors, _SMALLEST))
        data += numbers(np.array([network.factor(source)]))
        params[8] = 1
        if fused.result in network.stored:
            params[8] = 101
            data += numbers(np.array([network.factor(fused.result)]))
    if fused.activation is not None:
        params.update(fused.activation)
    kind = "ConvolutionDepthWise" if depthwise else "Convolution"
    made = network.multiple(fused.result) if fused.result in network.behind else fused.result
    return [
        Layer(kind, op.name, (network.read_by(op, source),), (made,), params, data),
        *_of_multiple(network, fused.result),
    ]


def _of_multiple(network: NcnnNetwork, name: str) -> list[Layer]:
    """A result of which there is a multiple: as integers for convolutions on these, and as it is for others."""
    if name not in network.behind:
        return []
    found, multiple, behind = [], network.multiple(name), network.behind[name]
    read = {network.read_by(user, name) for user in network.graph.users(name)}
    if network.integers(name) in read:
        scales = numbers(behind * network.factor(name))
        stored = network.integers(name)
        found.append(Layer("Quantize", stored, (multiple,), (stored,), {0: len(behind)}, scales))
    if name in read or name in network.graph.outputs:
        constant = f"{name}.behind"
        found.append(
            Layer("MemoryData", constant, (), (constant,), {0: 1, 1: 1, 2: len(behind)}, numbers(behind))
        )
        found.append(Layer("BinaryOp", name, (multiple, constant), (name,), {0: _MULTIPLY}))
    return found


_SMALLEST = 1e-12  # scale of a channel that is all zero


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    out, inputs = weight.shape[0] // groups, weight.shape[1]
    wide = np.zeros((weight.shape[0], inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * out, (group + 1) * out)
        wide[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return wide


def _pool(network: NcnnNetwork, op: Operator) -> list[Layer]:
    values, source = op.attributes, _source(op)
    height, width = network.shape(source)[2:]
    rows, columns = network.shape(op.name)[2:]
    average = int(values["pooling_type"] == "avg")
    if rows == columns == 1 and (values.get("adaptive") or values.get("global_pooling")):
        flat = f"{op.name}.flat"  # ncnn's global pooling leaves a vector
        whole = {0: 1, 1: 1, 2: network.shape(source)[1]}
        pooled = Layer("Pooling", f"{op.name}.pooled", (source,), (flat,), {0: average, 4: 1})
        return [pooled, *_one("Reshape", op, whole, flat)]
    if values.get("adaptive") or values.get("global_pooling"):
        return _one("Pooling", op, {0: average, 7: 1, 8: columns, 18: rows})
    if values.get("ceil_mode"):
        raise refused(op, "it has ceil_mode")
    size = values["ksize"]
    top, bottom, left, right = explicit_paddings(values, size, (height, width))
    params: dict[int, Value] = {
        0: average, 1: size[1], 11: size[0], 2: values["strides"][1], 12: values["strides"][0], 3: left, 14: right,
        13: top, 15: bottom, 5: _VALID, 6: int(not values.get("exclusive", True)),
    }  # fmt: skip
    return _one("Pooling", op, params)


def _elementwise(network: NcnnNetwork, op: Operator) -> list[Layer]:
    first, second = op.input("X0"), op.input("Y0")
    assert first and second
    kind = _ADD if op.op_type == "elementwise_add" else _MULTIPLY
    if second not in network.values:
        if len(network.shape(first)) != len(network.shape(second)):
            raise refused(op, "its inputs have different numbers of axes")
        return [Layer("BinaryOp", op.name, (first, second), (op.name,), {0: kind})]
    value = np.asarray(network.values[second], np.float32)
    if value.size == 1:
        return _one("BinaryOp", op, {0: kind, 1: 1, 2: float(value.ravel()[0])}, first)
    rank, axis = len(network.shape(op.name)), op.attributes.get("axis", -1)
    behind = 0 if axis < 0 else rank - axis - value.ndim
    shape = (*([1] * (rank - value.ndim - behind)), *value.shape, *([1] * behind))
    if shape[0] != 1 or rank > 4:
        raise refused(op, f"its constant has shape {list(value.shape)}")
    places = dict(zip((0, 1, 2), reversed(shape[1:])))
    name = f"{op.name}.constant"
    constant = Layer("MemoryData", name, (), (name,), places, numbers(value))
    return [constant, Layer("BinaryOp", op.name, (first, name), (op.name,), {0: kind})]


def _concat(network: NcnnNetwork, op: Operator) -> list[Layer]:
    axis = _behind_batch(op, op.attributes["axis"], network.shape(op.name))
    return [Layer("Concat", op.name, tuple(name for _, name in op.inputs), (op.name,), {0: axis})]


def _split(network: NcnnNetwork, op: Operator) -> list[Layer]:
    source = _source(op)
    axis = _behind_batch(op, op.attributes["axis"], network.shape(source))
    parts = [network.shape(name)[axis + 1] for name in op.results]
    return [Layer("Slice", op.name, (source,), op.results, {0: parts, 1: axis})]


def _slice(network: NcnnNetwork, op: Operator) -> list[Layer]:
    shape, values = network.shape(_source(op)), op.attributes
    if values.get("decrease_axis") or len(network.shape(op.name)) != len(shape):
        raise refused(op, "it takes an axis away")
    axes = [_behind_batch(op, axis, shape) for axis in values["axes"]]
    lengths = [shape[axis + 1] for axis in axes]
    starts, ends = (
        [min(max(place + size if place < 0 else place, 0), size) for place, size in zip(values[key], lengths)]
        for key in ("starts", "ends")
    )
    return _one("Crop", op, {9: starts, 10: ends, 11: axes})


def _behind_batch(op: Operator, axis: int, shape: tuple[int, ...]) -> int:
    axis %= len(shape)
    if axis == 0:
        raise refused(op, "it takes the batch apart, which ncnn has not")
    return axis - 1


def _reshape(network: NcnnNetwork, op: Operator) -> list[Layer]:
    shape = network.shape(op.name)
    places = {2: (0,), 3: (1, 0), 4: (2, 1, 0), 5: (2, 11, 1, 0)}.get(len(shape))
    if places is None or shape[0] != 1:
        raise refused(op, f"its result has shape {list(shape)}")
    return _one("Reshape", op, dict(zip(places, shape[1:])))


def _transpose(network: NcnnNetwork, op: Operator) -> list[Layer]:
    first, *axes = op.attributes["axis"]
    shuffled = (1, 0, 2, 3)  # groups and the channels inside them
    moved = tuple(axis - 1 for axis in axes)
    if first == 0 and moved == shuffled:
        groups, inside, height, width = network.shape(_source(op))[1:]
        flat, turned = f"{op.name}.flat", f"{op.name}.turned"
        return [
            Layer("Reshape", flat, (_source(op),), (flat,), {0: height * width, 1: inside, 2: groups}),
            Layer("Permute", turned, (flat,), (turned,), {0: _PERMUTED[1, 0, 2]}),
            *_one("Reshape", op, {0: width, 1: height, 11: groups, 2: inside}, turned),
        ]
    if first != 0 or moved not in _PERMUTED:
        raise refused(op, f"it moves axes to {list(op.attributes['axis'])}")
    return _one("Permute", op, {0: _PERMUTED[moved]})


def _scale(network: NcnnNetwork, op: Operator) -> list[Layer]:
    values = op.attributes
    factor, bias = values.get("scale", 1.0), values.get("bias", 0.0)
    if factor != 1.0 or bias != 0.0:
        raise refused(
            op, "it changes values, as post-processing does: export as raw (export.post_process: false)"
        )
    return _one("Noop", op, {})


def _resize(network: NcnnNetwork, op: Operator) -> list[Layer]:
    if op.attributes.get("align_corners"):
        raise refused(op, "it has align_corners")
    height, width = network.shape(op.name)[2:]
    return _one("Interp", op, {0: 1, 3: height, 4: width})


def _function(network: NcnnNetwork, op: Operator) -> list[Layer]:
    kind, params = function_layer(op)
    return _one(kind, op, params)


_WRITERS = {
    "conv2d": _convolution, "depthwise_conv2d": _convolution, "pool2d": _pool, "elementwise_add": _elementwise,
    "elementwise_mul": _elementwise, "concat": _concat, "split": _split, "slice": _slice, "reshape2": _reshape,
    "flatten_contiguous_range": _reshape, "squeeze2": _reshape, "unsqueeze2": _reshape, "transpose2": _transpose,
    "scale": _scale, "assign": _scale, "nearest_interp_v2": _resize, "sigmoid": _function, "tanh": _function,
    "relu": _function, "relu6": _function, "leaky_relu": _function, "hard_swish": _function,
    "hard_sigmoid": _function,
}  # fmt: skip
