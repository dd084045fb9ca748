"""Each operator of a graph as a function of its inputs' steps. Tensors are for one image, `[1, C, H, W]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.errors import ToolError
from picoquant.int8.functions import function_of
from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import operators
from picoquant.npu.simulation.arithmetic import (
    INT32,
    Requantiser,
    held,
    limited,
    rounded,
    table,
    to_steps,
    to_values,
)
from picoquant.npu.simulation.convolution import Geometry, convolve, exact_type
from picoquant.npu.simulation.graph import SimulatedGraph
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.layers import FusedLayer
from picoquant.paddle_program.paddings import explicit_paddings
from picoquant.targets.integer_rules import Rules

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Step:
    """An operator that is ready to run.

    Attributes:
        op_type: its type.
        inputs, outputs: names of tensors.
        run: steps of the inputs -> steps of the outputs, int16.
        shapes: of the outputs.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Arrays], Arrays]
    shapes: tuple[tuple[int, ...], ...]


def make_steps(graph: SimulatedGraph, rules: Rules) -> list[Step]:
    """Prepare every operator.

    Raises: `ToolError` naming an operator that the simulation does not know.
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
        entries = table(function, sources[0], results[0], rules.arithmetic.rounding)
        run = lambda arrays: [operators.look_up(arrays[0], entries, sources[0])]  # noqa: E731
    elif op.op_type in ("elementwise_add", "elementwise_mul"):
        run = _elementwise(op, graph, rules, sources, results[0])
    elif op.op_type == "pool2d":
        run = _pool(op, graph, rules, sources[0], results[0])
    elif op.op_type in _MOVES:
        run = _move(op, graph, rules, sources, results, shapes)
    else:
        raise ToolError(
            f"the simulation has no operator {op.op_type} ({op.name}): it takes networks exported as raw"
        )
    return Step(op.op_type, inputs, outputs, run, shapes)


def _convolution(
    layer: FusedLayer, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    """INT32 sums of products, an INT32 bias in the sums' scale, one rounding to the result, a clamp."""
    operator = graph.quantised[layer.conv.name]
    exact = exact_type(operator.integers, max(-source.low, source.high))
    weights = operator.integers.astype(exact)
    scales, added = _sums(operator, graph, rules, source)
    ends = limited(result, *_ends(layer), rules.arithmetic.rounding)
    requantise = Requantiser.of(scales / result.scale, rules, *ends)
    geometry = _geometry(layer.conv, graph)

    def run(arrays: Arrays) -> Arrays:
        sums = convolve(arrays[0][0], weights, geometry).astype(np.int64)
        sums += added[:, None, None]
        return [requantise(np.clip(sums, *INT32, out=sums))[None]]

    return run


def _sums(
    operator: QuantizedOperator, graph: SimulatedGraph, rules: Rules, source: QuantParams
) -> tuple[np.ndarray, np.ndarray]:
    """The scales of an operator's sums of products, and the bias in them, int64.

    The network's own integers where the target's scale of the input is the network's, as it is but for tensors that
    a target holds in 255 steps from 0.
    """
    scales = source.scale * operator.scales
    if operator.bias_integers is None:
        return scales, np.zeros(len(operator.integers), np.int64)
    own = graph.network.tensors[operator.activation].params
    if np.isclose(own.scale, source.scale, rtol=1e-9, atol=0):
        return scales, operator.bias_integers
    value = operator.bias_integers * (operator.scales * own.scale)
    return scales, np.clip(rounded(value / scales, rules.arithmetic.rounding), *INT32).astype(np.int64)


def _float_convolution(
    layer: FusedLayer, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    """A layer that was left in float: the CPU scales its input back, computes, and rounds its result."""
    weights = graph.values[layer.conv.input("Filter0")].astype(np.float32)
    bias = None if layer.bias is None else graph.values[layer.bias]
    low, high = _ends(layer)
    geometry = _geometry(layer.conv, graph)

    def run(arrays: Arrays) -> Arrays:
        values = convolve(to_values(arrays[0][0], source), weights, geometry)
        values += 0 if bias is None else bias[:, None, None]
        return [to_steps(np.clip(values, low, high), result, rules.arithmetic.rounding)[None]]

    return run


def _ends(layer: FusedLayer) -> tuple[float, float]:
    """The smallest and largest value that a layer's activation lets through."""
    activation = layer.activation
    if activation is None:
        return -math.inf, math.inf
    return 0.0, activation.attributes.get("threshold", 6.0) if activation.op_type == "relu6" else math.inf


def _geometry(op: Operator, graph: SimulatedGraph) -> Geometry:
    values = op.attributes
    size = graph.graph.tensor(dict(op.inputs)["Filter0"]).shape[2:]
    source = graph.graph.tensor(dict(op.inputs)["Input0"]).shape[2:]
    return Geometry(
        tuple(values["strides"]),
        explicit_paddings(values, size, source),
        tuple(values.get("dilations") or (1, 1)),
        values.get("groups") or 1,
    )


def _elementwise(
    op: Operator, graph: SimulatedGraph, rules: Rules, sources: Sequence[QuantParams], result: QuantParams
) -> Callable[[Arrays], Arrays]:
    compute = operators.add if op.op_type == "elementwise_add" else operators.multiply
    first, second = (dict(op.inputs)[slot] for slot in ("X0", "Y0"))
    rank = len(graph.graph.tensor(op.outputs[0][1]).shape)
    axis = op.attributes.get("axis", -1)

    def fitted(array: np.ndarray) -> np.ndarray:
        """The second input's axes begin at the first one's `axis`."""
        shape = array.shape
        return (
            array
            if axis < 0 or len(shape) == rank
            else array.reshape(*shape, *[1] * (rank - axis - len(shape)))
        )

    if second in graph.values:  # a constant is stored in INT8 with its own largest value
        value = graph.values[second]
        constant = held(float(np.abs(value).max()) or 1.0, rules, non_negative=bool((value >= 0).all()))
        stored = fitted(to_steps(value, constant, rules.arithmetic.rounding))
        pair = [sources[0], constant]
        return lambda arrays: [compute(arrays[0], stored, pair, result, rules)]
    pair = [graph.params[first], graph.params[second]]
    return lambda arrays: [compute(arrays[0], fitted(arrays[-1]), pair, result, rules)]


def _pool(
    op: Operator, graph: SimulatedGraph, rules: Rules, source: QuantParams, result: QuantParams
) -> Callable[[Arrays], Arrays]:
    values = op.attributes
    given = graph.graph.tensor(op.inputs[0][1]).shape[2:]
    wanted = graph.graph.tensor(op.outputs[0][1]).shape[2:]
    size, geometry = tuple(values["ksize"]), Geometry(tuple(values["strides"]))
    if values.get("global_pooling") or values.get("adaptive"):
        if any(length % cells for length, cells in zip(given, wanted)):
            raise ToolError(f"pool2d {op.name} has windows of several sizes, which no NPU here computes")
        size = tuple(length // cells for length, cells in zip(given, wanted))
        geometry = Geometry(size)
    else:
        geometry = Geometry(geometry.strides, explicit_paddings(values, size, given))
    if values["pooling_type"] == "max":
        return lambda arrays: [
            operators.rescale(operators.max_pool(arrays[0][0], size, geometry), source, result, rules)[None]
        ]
    exclusive = values.get("exclusive", True)
    return lambda arrays: [
        operators.average_pool(arrays[0][0], size, geometry, source, result, rules, exclusive)[None]
    ]


_MOVES = (
    "concat", "split", "reshape2", "transpose2", "nearest_interp_v2", "slice", "assign", "scale",
    "flatten_contiguous_range", "squeeze2", "unsqueeze2",
)  # fmt: skip


def _move(
    op: Operator,
    graph: SimulatedGraph,
    rules: Rules,
    sources: Sequence[QuantParams],
    results: Sequence[QuantParams],
    shapes,
) -> Callable[[Arrays], Arrays]:
    """Steps are moved; where result and source have different scales each is brought to the result's."""
    values = op.attributes
    if op.op_type == "concat":
        return lambda arrays: [
            np.concatenate(
                [
                    operators.rescale(array, source, results[0], rules)
                    for array, source in zip(arrays, sources)
                ],
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
        given = graph.graph.tensor(op.inputs[0][1]).shape
        rows, columns = (np.arange(shapes[0][axis]) * given[axis] // shapes[0][axis] for axis in (2, 3))
        move = lambda arrays: [arrays[0][:, :, rows][:, :, :, columns]]  # noqa: E731
    elif op.op_type == "slice":
        cut = [slice(None)] * len(graph.graph.tensor(op.inputs[0][1]).shape)
        for axis, start, end in zip(values["axes"], values["starts"], values["ends"]):
            cut[axis] = slice(start, end)
        move = lambda arrays: [arrays[0][tuple(cut)]]  # noqa: E731
    else:
        move = lambda arrays: [arrays[0].reshape(shapes[0])]  # noqa: E731
    return lambda arrays: [
        operators.rescale(array, sources[0], result, rules) for array, result in zip(move(arrays), results)
    ]
