"""Paddle's operators as TFLite's, a function each."""

from __future__ import annotations

import math

import numpy as np

from picoquant.backends.tflite.hard_sigmoid import slope_and_offset
from picoquant.backends.tflite.layout import Layout, moved, reshaped
from picoquant.backends.tflite.params import bias_integers, is_mean, symmetric, weight_scales
from picoquant.backends.tflite.tensors import TfliteWriter
from picoquant.errors import ToolError
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.layers import FusedLayer
from picoquant.paddle_program.paddings import explicit_paddings

_SIX = 6.0
NONE, RELU, RELU6 = 0, 1, 3  # of the schema's `ActivationFunctionType`
SAME, VALID = 0, 1  # of the schema's `Padding`


def write_operator(made: TfliteWriter, op: Operator) -> None:
    """Write an operator with what is fused into it.

    Raises: `ToolError` naming one that TFLite has no integers for.
    """
    write = _WRITERS.get(op.op_type)
    if write is None:
        raise ToolError(
            f"TFLite's file cannot hold {op.op_type} ({op.name}) in integers: it takes networks exported as raw whose "
            f"operators are among {', '.join(sorted(_WRITERS))}"
        )
    write(made, op)


def _refused(op: Operator, what: str) -> ToolError:
    return ToolError(f"TFLite's file cannot hold {op.op_type} {op.name}: {what}")


def _source(op: Operator) -> str:
    return next(name for slot, name in op.inputs if slot in ("X0", "Input0"))


def _convolution(made: TfliteWriter, op: Operator) -> None:
    network, layer = made.network, made.network.layers[op.name]
    operator, source = network.by_output.get(op.name), _source(op)
    if operator is None:
        raise _refused(
            op,
            "it is in float (Quantize.keep_float or max_drop), and every operator of the file is in integers",
        )
    integers, scales = operator.integers, weight_scales(operator)
    out, inputs, *kernel = integers.shape
    groups = op.attributes.get("groups") or 1
    depthwise = groups > 1 and inputs == 1
    last = integers.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    axis = 3 if depthwise else 0
    params = made.params[source]
    weight = made.model.tensor(
        operator.weight, last.shape, "int8", QuantParams(scales, narrow=False), last, axis
    )
    bias = bias_integers(operator, network, params, out)
    kind = "int32" if made.bits == 8 else "int64"
    steps = QuantParams(
        np.broadcast_to(scales * params.scale, out) if len(scales) > 1 else scales * params.scale
    )
    biases = made.model.tensor(operator.bias or f"{op.name}.bias", (out,), kind, steps, bias)
    strides = op.attributes["strides"]
    dilations = op.attributes.get("dilations") or (1, 1)
    index, padding = _padded(made, op, source, kernel, dilations, made.params[source].zero_point)
    options = {
        "padding": padding, "strideH": strides[0], "strideW": strides[1], "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1], "fusedActivationFunction": _activation(layer),
    }  # fmt: skip
    if depthwise:
        options["depthMultiplier"] = out // groups
    name = "DepthwiseConv2D" if depthwise else "Conv2D"
    result = made.computed(layer.output)
    made.model.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [index, weight, biases],
        [result],
        f"{name}Options",
        **options,
    )


def _activation(layer: FusedLayer) -> int:
    op = layer.activation
    if op is None:
        return NONE
    if op.op_type == "relu6":
        if not math.isclose(op.attributes.get("threshold", _SIX), _SIX):
            raise _refused(op, f"its threshold is {op.attributes['threshold']:g}, TFLite's is 6")
        return RELU6
    return RELU


def _padded(
    made: TfliteWriter, op: Operator, source: str, kernel: list[int], dilations: tuple[int, ...], fill: int
) -> tuple[int, int]:
    """What an operator with windows reads, with a border in it where TFLite's own would be another; and its padding."""
    height, width = made.shape(source)[2:]
    top, bottom, left, right = explicit_paddings(op.attributes, kernel, (height, width))
    index = made.read(source)
    if not any((top, bottom, left, right)):
        return index, VALID
    own = []
    for length, size, stride, dilation in zip((height, width), kernel, op.attributes["strides"], dilations):
        total = max((-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
        own += [total // 2, total - total // 2]
    if own == [top, bottom, left, right]:
        return index, SAME
    channels, params = made.shape(source)[1], made.params[source]
    wide = made.between(
        f"{op.name}.padded", [1, height + top + bottom, width + left + right, channels], params
    )
    border = made.model.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
    if fill == params.zero_point:
        made.model.operator("PAD", [index, border], [wide], "PadOptions")
    else:
        value = made.model.tensor(f"{op.name}.border", (1,), made.kind, params, np.array([fill]))
        made.model.operator("PADV2", [index, border, value], [wide], "PadV2Options")
    return wide, VALID


def _pool(made: TfliteWriter, op: Operator) -> None:
    values, source = op.attributes, _source(op)
    height, width = made.shape(source)[2:]
    rows, columns = made.shape(op.name)[2:]
    if is_mean(op):
        axes = made.model.numbers([1, 2])
        inputs = [made.read(source), axes]
        made.model.operator("MEAN", inputs, [made.computed(op.name)], "ReducerOptions", keepDims=True)
        return
    size, strides = list(values["ksize"]), list(values["strides"])
    index, padding = made.read(source), VALID
    if values.get("adaptive") or values.get("global_pooling"):
        if height % rows or width % columns:
            raise _refused(op, "it has windows of several sizes")
        size = strides = [height // rows, width // columns]
    else:
        average = values["pooling_type"] == "avg"
        fill = made.params[source].zero_point if average else made.lowest
        index, padding = _padded(made, op, source, size, (1, 1), fill)
        if average and any(explicit_paddings(values, size, (height, width))):
            exclusive = values.get("exclusive", True)
            if exclusive != (padding == SAME):
                raise _refused(op, "its border counts in a way that TFLite's mean does not have")
    name = "MAX_POOL_2D" if values["pooling_type"] == "max" else "AVERAGE_POOL_2D"
    made.model.operator(
        name, [index], [made.computed(op.name)], "Pool2DOptions", padding=padding, strideH=strides[0],
        strideW=strides[1], filterHeight=size[0], filterWidth=size[1],
    )  # fmt: skip


def _elementwise(made: TfliteWriter, op: Operator) -> None:
    first, second = op.input("X0"), op.input("Y0")
    shape, axis = made.shape(op.name), op.attributes.get("axis", -1)
    layout = Layout.of(shape)
    inputs = [made.read(first)]
    if second in made.network.values:
        value = np.asarray(made.network.values[second])
        behind = 0 if axis < 0 else len(shape) - axis - value.ndim
        wide = value.reshape((1,) * (len(shape) - value.ndim - behind) + value.shape + (1,) * behind)
        inputs.append(made.constant(second, wide, layout))
    elif len(made.shape(first)) == len(made.shape(second)) == len(shape):
        inputs.append(made.read(second))
    else:
        raise _refused(op, "its inputs have different numbers of axes")
    name = "ADD" if op.op_type == "elementwise_add" else "MUL"
    options = {"potScaleInt16": False} if name == "ADD" else {}
    result = made.computed(op.name)
    made.model.operator(name, inputs, [result], f"{name.title()}Options", **options)


def _concat(made: TfliteWriter, op: Operator) -> None:
    result = made.computed(op.name)
    params, axis = made.params[op.name], made.layouts[op.name].axis(op.attributes["axis"])
    parts = [made.requantised(made.read(name), made.params[name], params, name) for _, name in op.inputs]
    made.model.operator("CONCATENATION", parts, [result], "ConcatenationOptions", axis=axis)


def _split(made: TfliteWriter, op: Operator) -> None:
    source = _source(op)
    index, layout = made.read(source), Layout.of(made.shape(source))
    axis = layout.axis(op.attributes["axis"])
    sizes = [layout.stored(made.shape(name))[axis] for name in op.results]
    results = [made.computed(name) for name in op.results]
    if len(set(sizes)) == 1:
        inputs = [made.model.numbers(axis), index]
        made.model.operator("SPLIT", inputs, results, "SplitOptions", numSplits=len(sizes))
    else:
        inputs = [index, made.model.numbers(sizes), made.model.numbers(axis)]
        made.model.operator("SPLIT_V", inputs, results, "SplitVOptions", numSplits=len(sizes))


def _slice(made: TfliteWriter, op: Operator) -> None:
    source, values = _source(op), op.attributes
    shape, layout = made.shape(source), Layout.of(made.shape(source))
    starts = [0] * len(shape)
    for axis, start in zip(values["axes"], values["starts"]):
        starts[axis] = start + shape[axis] if start < 0 else min(start, shape[axis])
    if values.get("decrease_axis") or len(made.shape(op.name)) != len(shape):
        raise _refused(op, "it takes an axis away")
    index, result = made.read(source), made.computed(op.name)
    begin, size = (made.model.numbers(layout.stored(sizes)) for sizes in (starts, made.shape(op.name)))
    made.model.operator("SLICE", [index, begin, size], [result], "SliceOptions")


def _reshape(made: TfliteWriter, op: Operator) -> None:
    source, shape = _source(op), made.shape(op.name)
    layout, index = reshaped(made.layouts[source], made.shape(source), shape), made.index[source]
    if layout is None:
        layout, index = Layout(len(shape)), made.plain(source)
    result = made.computed(op.name, layout)
    made.reshape(index, result)


def _transpose(made: TfliteWriter, op: Operator) -> None:
    source = _source(op)
    layout, order = moved(made.layouts[source], op.attributes["axis"])
    if order == tuple(range(len(order))):  # the same bytes
        made.index[op.name], made.layouts[op.name] = made.index[source], layout
        return
    made.transpose(
        made.index[source], made.stored_shape(source), order, made.computed(op.name, layout), op.name
    )


def _same(made: TfliteWriter, op: Operator) -> None:
    source, values = _source(op), op.attributes
    if op.op_type == "scale" and (values.get("scale", 1.0) != 1.0 or values.get("bias", 0.0) != 0.0):
        raise _refused(
            op,
            "it changes values, as post-processing does: export the model as raw (export.post_process: false)",
        )
    made.index[op.name], made.layouts[op.name] = made.index[source], made.layouts[source]


def _resize(made: TfliteWriter, op: Operator) -> None:
    source = _source(op)
    if op.attributes.get("align_corners"):
        raise _refused(op, "it has align_corners")
    size = made.model.numbers(made.shape(op.name)[2:])
    inputs = [made.read(source), size]
    name = "ResizeNearestNeighborOptions"
    made.model.operator("RESIZE_NEAREST_NEIGHBOR", inputs, [made.computed(op.name)], name)


def _unary(made: TfliteWriter, op: Operator) -> None:
    """A function that TFLite has under one name, for any scale of its input."""
    name = {
        "sigmoid": "LOGISTIC",
        "tanh": "TANH",
        "relu": "RELU",
        "relu6": "RELU6",
        "leaky_relu": "LEAKY_RELU",
    }
    options: tuple = ()
    values = {}
    if op.op_type == "leaky_relu":
        options, values = ("LeakyReluOptions",), {"alpha": op.attributes.get("alpha", 0.02)}
        if made.bits != 8:
            values["alpha"] = float(np.float32(values["alpha"]))
    if op.op_type == "relu6" and not math.isclose(op.attributes.get("threshold", _SIX), _SIX):
        raise _refused(op, f"its threshold is {op.attributes['threshold']:g}, TFLite's is 6")
    inputs = [made.read(_source(op))]
    made.model.operator(name[op.op_type], inputs, [made.computed(op.name)], *options, **values)


def _hard_swish(made: TfliteWriter, op: Operator) -> None:
    """TFLite's own for int8; for int16, which it has not, `x / 6 * relu6(x + 3)`."""
    values, source = op.attributes, _source(op)
    constants = [
        values.get(key, default) for key, default in (("threshold", 6.0), ("scale", 6.0), ("offset", 3.0))
    ]
    if not np.allclose(constants, (6.0, 6.0, 3.0)):
        raise _refused(op, "it is another function than x * relu6(x + 3) / 6")
    index = made.read(source)
    result = made.computed(op.name)
    if made.bits == 8:
        made.model.operator("HARD_SWISH", [index], [result], "HardSwishOptions")
        return
    shape, params = made.stored_shape(op.name), made.params[source]
    gate = made.between(f"{op.name}.gate", shape, symmetric(_SIX, made.bits))
    sixth = made.between(f"{op.name}.sixth", shape, QuantParams(params.scale / 6, 0, made.bits, narrow=False))
    three, part = (
        made.constant(f"{op.name}.{value:g}", np.full((1,) * len(shape), value)) for value in (3, 1 / 6)
    )
    made.model.operator(
        "ADD", [index, three], [gate], "AddOptions", fusedActivationFunction=RELU6, potScaleInt16=False
    )
    made.model.operator("MUL", [index, part], [sixth], "MulOptions")
    made.model.operator("MUL", [sixth, gate], [result], "MulOptions")


def _hard_sigmoid(made: TfliteWriter, op: Operator) -> None:
    """One that no convolution takes in: the slope's product, limited on both sides by its range, and the offset."""
    slope, offset = slope_and_offset(op)
    if not math.isclose(offset, 0.5) or slope <= 0:
        raise _refused(op, "only a convolution with a bias before it takes an offset other than 0.5")
    source, result = _source(op), made.computed(op.name)
    shape = made.stored_shape(op.name)
    limited = made.between(f"{op.name}.product", shape, symmetric(offset, made.bits))
    one = (1,) * len(shape)
    factor, half = (made.constant(f"{op.name}.{value:g}", np.full(one, value)) for value in (slope, offset))
    made.model.operator("MUL", [made.read(source), factor], [limited], "MulOptions")
    made.model.operator(
        "ADD", [limited, half], [result], "AddOptions", fusedActivationFunction=RELU, potScaleInt16=False
    )


_WRITERS = {
    "conv2d": _convolution, "depthwise_conv2d": _convolution, "pool2d": _pool, "elementwise_add": _elementwise,
    "elementwise_mul": _elementwise, "concat": _concat, "split": _split, "slice": _slice, "reshape2": _reshape,
    "flatten_contiguous_range": _reshape, "squeeze2": _reshape, "unsqueeze2": _reshape, "transpose2": _transpose,
    "scale": _same, "assign": _same, "nearest_interp_v2": _resize, "sigmoid": _unary, "tanh": _unary, "relu": _unary,
    "relu6": _unary, "leaky_relu": _unary, "hard_swish": _hard_swish, "hard_sigmoid": _hard_sigmoid,
}  # fmt: skip
