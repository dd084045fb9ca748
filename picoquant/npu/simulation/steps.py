"""Each operator as a function of its quantised inputs. Tensors are for one image, `[1, C, H, W]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from picoquant.backends.paddle_lite.integer_form import saturates_at
from picoquant.backends.tflite.params import bias_integers, is_mean, weight_scales
from picoquant.errors import ToolError
from picoquant.int8.functions import function_of
from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import operators
from picoquant.npu.simulation.arithmetic import (
    INT32,
    Requantiser,
    clamp_limits,
    dequantise,
    quantise,
    shader_table,
    table,
    target_params,
)
from picoquant.npu.simulation.convolution import Geometry, convolve, exact_type
from picoquant.npu.simulation.graph import SimulatedGraph
from picoquant.npu.simulation.tflite import function_table, mean_of_image
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.layers import FusedLayer
from picoquant.paddle_program.paddings import explicit_paddings
from picoquant.targets.integer_rules import Arithmetic, Rules

Arrays = Sequence[np.ndarray]
_RESHAPES = ("reshape2", "flatten_contiguous_range", "squeeze2", "unsqueeze2")


@dataclass(frozen=True)
class Step:
    """An operator that is ready to run.

    Attributes:
        op_type: its type, for example `conv2d`.
        inputs, outputs: names of its computed tensors.
        run: quantised inputs -> quantised outputs, int16.
        shapes: shapes of the outputs.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Arrays], Arrays]
    shapes: tuple[tuple[int, ...], ...]


def make_steps(graph: SimulatedGraph, rules: Rules) -> list[Step]:
    """Prepare every operator of a graph, in execution order.

    Raises: `ToolError` naming an operator that the simulation does not support.
    """
    return [_step(op, graph, rules) for op in graph.operators]


def _step(op: Operator, graph: SimulatedGraph, rules: Rules) -> Step:
    if op.op_type in ("conv2d", "depthwise_conv2d"):
        layer = graph.network.layers[op.name]
        output, source = layer.output, op.input("Input0")
        make = _convolution if op.name in graph.quantised else _float_convolution
        run = make(layer, graph, rules, graph.params[source], graph.params[output])
        return Step(op.op_type, (source,), (output,), run, (graph.graph.tensor(output).shape,))
    inputs = tuple(name for _, name in op.inputs if name not in graph.values)
    outputs = op.results
    shapes = tuple(graph.graph.tensor(name).shape for name in outputs)
    sources, results = ([graph.params[name] for name in names] for names in (inputs, outputs))
    function = function_of(op.op_type, op.attributes)
    if function is not None:
        if rules.tflite:
            entries = function_table(op.op_type, op.attributes, function, sources[0], results[0])
        elif rules.on_shaders(graph.network.per_channel):
            entries = shader_table(function, sources[0], results[0], rules.arithmetic.rounding)
        else:
            arithmetic = rules.arithmetic
            entries = table(
                function, sources[0], results[0], arithmetic.rounding, _points(op.op_type, arithmetic)
            )
        run = lambda arrays: [operators.look_up(arrays[0], entries, sources[0])]  # noqa: E731
    elif op.op_type in ("elementwise_add", "elementwise_mul"):
        run = _elementwise(op, graph, rules, sources, results[0])
    elif op.op_type == "pool2d":
        run = _pool(op, graph, rules, sources[0], results[0])
    elif op.op_type in _REORDERING:
        run = _reorder(op, graph, rules, sources, results, shapes)
    else:
        raise ToolError(
            f"the simulation has no operator {op.op_type} ({op.name}): it takes networks exported as raw"
        )
    return Step(op.op_type, inputs, outputs, run, shapes)


def _convolution(
    layer: FusedLayer, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    """INT32 sums of products plus an INT32 bias in their scale, requantised with one rounding and clamped."""
    operator = graph.quantised[layer.conv.name]
    exact = exact_type(operator.integers, max(-source.low, source.high))
    weights = operator.integers.astype(exact)
    scales, bias = sum_scales_and_bias(operator, graph, rules, source)
    ends, cut = fused_limits(layer), None
    points = rules.arithmetic.table_points
    # On shaders ReLU6 is a part of the convolution. A convolution with one result is there, too, as the others are.
    on_cores = not rules.on_shaders(graph.network.per_channel)
    if points is not None and on_cores and math.isfinite(ends[1]) and not saturates_at(result, ends[1]):
        # ReLU6 is an operator of its own, behind the rounded result.
        cut = table(lambda x: np.clip(x, *ends), result, result, rules.arithmetic.rounding, points)
        ends = (-math.inf, math.inf)
    limits = clamp_limits(result, *ends, rules.arithmetic.rounding)
    if rules.tflite or (on_cores and len(operator.scales) == 1):
        requantise = Requantiser.of(scales / result.scale, rules, *limits)
    else:
        requantise = Requantiser.of_channels(operator.scales, source.scale, result.scale, rules, *limits)
    geometry = geometry_of(layer.conv, graph)

    def run(arrays: Arrays) -> Arrays:
        sums = convolve(arrays[0][0], weights, geometry).astype(np.int64)
        sums += bias[:, None, None]
        quantised = requantise(np.clip(sums, *INT32, out=sums))[None]
        return [quantised if cut is None else operators.look_up(quantised, cut, result)]

    return run


def _points(op_type: str, arithmetic: Arithmetic) -> int | None:
    """`table_points` of an operator; a ReLU needs no table."""
    return None if op_type == "relu" else arithmetic.table_points


def sum_scales_and_bias(
    operator: QuantizedOperator, graph: SimulatedGraph, rules: Rules, source: QuantParams
) -> tuple[np.ndarray, np.ndarray]:
    """The scales of an operator's sums of products, and its bias in these scales, int64; both `[O]`.

    The network's own bias integers are used: they are in steps of the input's scale, which no zero point changes.
    """
    if rules.tflite:
        channels = len(operator.integers)
        return source.scale * weight_scales(operator), bias_integers(
            operator, graph.network, source, channels
        )
    scales = source.scale * operator.scales
    if operator.bias_integers is None:
        return scales, np.zeros(len(operator.integers), np.int64)
    return scales, operator.bias_integers


def _float_convolution(
    layer: FusedLayer, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    """A layer that is kept in float: its input is dequantised, and its result quantised, as on the CPU."""
    weights = graph.values[layer.conv.input("Filter0")].astype(np.float32)
    bias = None if layer.bias is None else graph.values[layer.bias]
    low, high = fused_limits(layer)
    geometry = geometry_of(layer.conv, graph)

    def run(arrays: Arrays) -> Arrays:
        values = convolve(dequantise(arrays[0][0], source), weights, geometry)
        values += 0 if bias is None else bias[:, None, None]
        return [quantise(np.clip(values, low, high), result, rules.arithmetic.rounding)[None]]

    return run


def fused_limits(layer: FusedLayer) -> tuple[float, float]:
    """The smallest and largest value of a layer's activation function; infinite where it has no limit."""
    activation = layer.activation
    if activation is None:
        return -math.inf, math.inf
    return 0.0, activation.attributes.get("threshold", 6.0) if activation.op_type == "relu6" else math.inf


def geometry_of(op: Operator, graph: SimulatedGraph) -> Geometry:
    values = op.attributes
    size = graph.graph.tensor(dict(op.inputs)["Filter0"]).shape[2:]
    source = graph.graph.tensor(dict(op.inputs)["Input0"]).shape[2:]
    return Geometry(
        tuple(values["strides"]),
        explicit_paddings(values, size, source),
        tuple(values.get("dilations") or (1, 1)),
        values.get("groups") or 1,
    )


def _inside(name: str, graph: SimulatedGraph) -> bool:
    """Whether a tensor is computed in the network: no input of it, in another shape or not, and no output."""
    op = graph.graph.producer(name)
    while op is not None and op.op_type in _RESHAPES:
        op = graph.graph.producer(op.inputs[0][1])
    return op is not None and name not in graph.graph.outputs


def _elementwise(
    op: Operator, graph: SimulatedGraph, rules: Rules, sources: Sequence[QuantParams], result: QuantParams
) -> Callable[[Arrays], Arrays]:
    first, second = (dict(op.inputs)[slot] for slot in ("X0", "Y0"))
    compute = operators.multiply
    if op.op_type == "elementwise_add":
        inside = _inside(first, graph) and _inside(second, graph)
        compute = partial(operators.add, on_cores=inside and not graph.network.per_channel)
    rank = len(graph.graph.tensor(op.outputs[0][1]).shape)
    axis = op.attributes.get("axis", -1)

    def aligned(array: np.ndarray) -> np.ndarray:
        """The second input with its first axis at `axis` of the first one, so that numpy broadcasts them."""
        shape = array.shape
        return (
            array
            if axis < 0 or len(shape) == rank
            else array.reshape(*shape, *[1] * (rank - axis - len(shape)))
        )

    if second in graph.values:  # a constant is stored in INT8 with the scale of its own absmax
        value = graph.values[second]
        constant = target_params(float(np.abs(value).max()) or 1.0, rules)
        stored = aligned(quantise(value, constant, rules.arithmetic.rounding))
        pair = [sources[0], constant]
        return lambda arrays: [compute(arrays[0], stored, pair, result, rules)]
    pair = [graph.params[first], graph.params[second]]
    return lambda arrays: [compute(arrays[0], aligned(arrays[-1]), pair, result, rules)]


def _pool(
    op: Operator, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    values = op.attributes
    input_size = graph.graph.tensor(op.inputs[0][1]).shape[2:]
    output_size = graph.graph.tensor(op.outputs[0][1]).shape[2:]
    size, geometry = tuple(values["ksize"]), Geometry(tuple(values["strides"]))
    if values.get("global_pooling") or values.get("adaptive"):
        if any(length % cells for length, cells in zip(input_size, output_size)):
            raise ToolError(f"pool2d {op.name} has windows of several sizes, which no NPU here computes")
        size = tuple(length // cells for length, cells in zip(input_size, output_size))
        geometry = Geometry(size)
    else:
        geometry = Geometry(geometry.strides, explicit_paddings(values, size, input_size))
    if values["pooling_type"] == "max":
        return lambda arrays: [
            operators.rescale(operators.max_pool(arrays[0][0], size, geometry), source, result, rules)[None]
        ]
    if rules.tflite and is_mean(op):
        return lambda arrays: [mean_of_image(arrays[0], source, result)]
    exclusive = values.get("exclusive", True)
    return lambda arrays: [
        operators.average_pool(arrays[0][0], size, geometry, source, result, rules, exclusive)[None]
    ]


_REORDERING = (
    "concat", "split", "reshape2", "transpose2", "nearest_interp_v2", "slice", "assign", "scale",
    "flatten_contiguous_range", "squeeze2", "unsqueeze2",
)  # fmt: skip


def _reorder(
    op: Operator,
    graph: SimulatedGraph,
    rules: Rules,
    sources: Sequence[QuantParams],
    results: Sequence[QuantParams],
    shapes,
) -> Callable[[Arrays], Arrays]:
    """Operators that only move values; they are requantised if result and source have different scales."""
    values = op.attributes
    rescale = partial(operators.rescale, rules=rules, on_shaders=rules.on_shaders(graph.network.per_channel))
    if op.op_type == "concat":
        return lambda arrays: [
            np.concatenate(
                [rescale(array, source, results[0]) for array, source in zip(arrays, sources)],
                axis=values["axis"],
            )
        ]
    if op.op_type == "scale":
        if values.get("scale", 1.0) != 1.0 or values.get("bias", 0.0) != 0.0:
            raise ToolError(f"the simulation has no operator scale that changes values ({op.name})")
        move = list
    elif op.op_type == "transpose2":
        move = lambda arrays: [arrays[0].transpose(values["axis"])]  # noqa: E731
    elif op.op_type == "split":
        ends = np.cumsum([shape[values["axis"]] for shape in shapes])[:-1]
        move = lambda arrays: np.split(arrays[0], ends, axis=values["axis"])  # noqa: E731
    elif op.op_type == "nearest_interp_v2":
        if values.get("align_corners"):
            raise ToolError(f"the simulation has no nearest_interp_v2 with align_corners ({op.name})")
        source_shape = graph.graph.tensor(op.inputs[0][1]).shape
        rows, columns = (
            np.arange(shapes[0][axis]) * source_shape[axis] // shapes[0][axis] for axis in (2, 3)
        )
        move = lambda arrays: [arrays[0][:, :, rows][:, :, :, columns]]  # noqa: E731
    elif op.op_type == "slice":
        cut = [slice(None)] * len(graph.graph.tensor(op.inputs[0][1]).shape)
        for axis, start, end in zip(values["axes"], values["starts"], values["ends"]):
            cut[axis] = slice(start, end)
        move = lambda arrays: [arrays[0][tuple(cut)]]  # noqa: E731
    else:
        move = lambda arrays: [arrays[0].reshape(shapes[0])]  # noqa: E731
    return lambda arrays: [rescale(array, sources[0], result) for array, result in zip(move(arrays), results)]
