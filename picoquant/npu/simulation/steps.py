"""Each operator of a graph as a function of its inputs' levels. Tensors are for one image, `[1, C, H, W]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.errors import ToolError
from picoquant.npu.simulation import operators
from picoquant.npu.simulation.arithmetic import INT32, Levels, Requantiser, rounded, table
from picoquant.npu.simulation.convolution import Geometry, convolve, exact_type
from picoquant.npu.simulation.graph import SimulatedGraph
from picoquant.paddle_program.graph import BOOKKEEPING, Operator
from picoquant.targets.integer_rules import Rules

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Step:
    """An operator that is ready to run.

    Attributes:
        kind: its type.
        inputs, outputs: names of tensors.
        run: levels of the inputs -> levels of the outputs, int16.
        shapes: of the outputs.
    """

    kind: str
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
    if op.kind in ("conv2d", "depthwise_conv2d"):
        chain = graph.chains[op.name]
        output = chain[-1].name if chain else op.name
        source = dict(op.inputs)["Input0"]
        make = _convolution if op.name in graph.quantised else _float_convolution
        run = make(op, chain, graph, rules, graph.levels[source], graph.levels[output])
        return Step(op.kind, (source,), (output,), run, (graph.split.tensor(output).shape,))
    inputs = tuple(name for _, name in op.inputs if name not in graph.values)
    outputs = tuple(name for slot, name in op.outputs if not slot.startswith(BOOKKEEPING))
    shapes = tuple(graph.split.tensor(name).shape for name in outputs)
    sources, results = ([graph.levels[name] for name in names] for names in (inputs, outputs))
    if op.kind in _FUNCTIONS:
        function = _FUNCTIONS[op.kind](op.attributes)
        entries = table(function, sources[0], results[0], rules.arithmetic.rounding)
        run = lambda arrays: [operators.look_up(arrays[0], entries, sources[0])]  # noqa: E731
    elif op.kind in ("elementwise_add", "elementwise_mul"):
        run = _elementwise(op, graph, rules, sources, results[0])
    elif op.kind == "pool2d":
        run = _pool(op, graph, rules, sources[0], results[0])
    elif op.kind in _MOVES:
        run = _move(op, graph, rules, sources, results, shapes)
    else:
        raise ToolError(
            f"the simulation has no operator {op.kind} ({op.name}): it takes networks exported as raw"
        )
    return Step(op.kind, inputs, outputs, run, shapes)


def _convolution(
    op: Operator,
    chain: Sequence[Operator],
    graph: SimulatedGraph,
    rules: Rules,
    source: Levels,
    result: Levels,
) -> Callable[[Arrays], Arrays]:
    """INT32 sums of products, an INT32 bias in the sums' scale, one rounding to the result, a clamp."""
    operator = graph.quantised[op.name]
    scales = source.scale * operator.weight_scales.astype(np.float64)
    bias, low, high = _absorbed(chain, graph)
    exact = exact_type(operator.levels, max(-source.low, source.high))
    weights = operator.levels.astype(exact)
    added = np.zeros(len(weights), np.int64)
    if bias is not None:
        added = np.clip(rounded(bias.astype(np.float64) / scales, rules.arithmetic.rounding), *INT32)
        added = added.astype(np.int64)
    ends = result.limited(low, high, rules.arithmetic.rounding)
    requantise = Requantiser.of(scales / result.scale, rules, *ends)
    geometry = _geometry(op, graph)

    def run(arrays: Arrays) -> Arrays:
        sums = convolve(arrays[0][0], weights, geometry).astype(np.int64)
        sums += added[:, None, None]
        return [requantise(np.clip(sums, *INT32, out=sums))[None]]

    return run


def _float_convolution(
    op: Operator,
    chain: Sequence[Operator],
    graph: SimulatedGraph,
    rules: Rules,
    source: Levels,
    result: Levels,
) -> Callable[[Arrays], Arrays]:
    """A layer that was left in float: the CPU scales its input back, computes, and rounds its result."""
    weights = graph.values[dict(op.inputs)["Filter0"]].astype(np.float32)
    bias, low, high = _absorbed(chain, graph)
    geometry = _geometry(op, graph)

    def run(arrays: Arrays) -> Arrays:
        values = convolve(source.values(arrays[0][0]), weights, geometry)
        values += 0 if bias is None else bias[:, None, None]
        return [result.quantise(np.clip(values, low, high), rules.arithmetic.rounding)[None]]

    return run


def _absorbed(chain: Sequence[Operator], graph: SimulatedGraph) -> tuple[np.ndarray | None, float, float]:
    """Bias `[C]`, and the ends of the activation."""
    bias, low, high = None, -math.inf, math.inf
    for op in chain:
        if op.kind == "elementwise_add":
            bias = graph.values[dict(op.inputs)["Y0"]]
        else:
            low = 0.0
            high = op.attributes.get("threshold", 6.0) if op.kind == "relu6" else math.inf
    return bias, low, high


def _geometry(op: Operator, graph: SimulatedGraph) -> Geometry:
    values = op.attributes
    size = graph.split.tensor(dict(op.inputs)["Filter0"]).shape[2:]
    source = graph.split.tensor(dict(op.inputs)["Input0"]).shape[2:]
    return Geometry(
        tuple(values["strides"]),
        _padding(values, size, source),
        tuple(values.get("dilations") or (1, 1)),
        values.get("groups") or 1,
    )


def _padding(values, size: Sequence[int], source: Sequence[int]) -> tuple[int, int, int, int]:
    """`(top, bottom, left, right)` of Paddle's two, four or named paddings."""
    kind = values.get("padding_algorithm", "EXPLICIT")
    if kind == "VALID":
        return 0, 0, 0, 0
    if kind == "SAME":
        found = []
        for length, kernel, stride in zip(source, size, values["strides"]):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            found += [total // 2, total - total // 2]
        return tuple(found)
    given = tuple(values["paddings"])
    return given if len(given) == 4 else (given[0], given[0], given[1], given[1])


def _elementwise(
    op: Operator, graph: SimulatedGraph, rules: Rules, sources: Sequence[Levels], result: Levels
) -> Callable[[Arrays], Arrays]:
    compute = operators.add if op.kind == "elementwise_add" else operators.multiply
    first, second = (dict(op.inputs)[slot] for slot in ("X0", "Y0"))
    rank = len(graph.split.tensor(op.outputs[0][1]).shape)
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
        constant = Levels.of(float(np.abs(value).max()) or 1.0, rules, negative=bool((value < 0).any()))
        stored = fitted(constant.quantise(value, rules.arithmetic.rounding))
        pair = [sources[0], constant]
        return lambda arrays: [compute(arrays[0], stored, pair, result, rules)]
    pair = [graph.levels[first], graph.levels[second]]
    return lambda arrays: [compute(arrays[0], fitted(arrays[-1]), pair, result, rules)]


def _pool(
    op: Operator, graph: SimulatedGraph, rules: Rules, source: Levels, result: Levels
) -> Callable[[Arrays], Arrays]:
    values = op.attributes
    given = graph.split.tensor(op.inputs[0][1]).shape[2:]
    wanted = graph.split.tensor(op.outputs[0][1]).shape[2:]
    size, geometry = tuple(values["ksize"]), Geometry(tuple(values["strides"]))
    if values.get("global_pooling") or values.get("adaptive"):
        if any(length % cells for length, cells in zip(given, wanted)):
            raise ToolError(f"pool2d {op.name} has windows of several sizes, which no NPU here computes")
        size = tuple(length // cells for length, cells in zip(given, wanted))
        geometry = Geometry(size)
    else:
        geometry = Geometry(geometry.strides, _padding(values, size, given))
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
    sources: Sequence[Levels],
    results: Sequence[Levels],
    shapes,
) -> Callable[[Arrays], Arrays]:
    """Levels are moved; where result and source have different scales each is brought to the result's."""
    values = op.attributes
    if op.kind == "concat":
        return lambda arrays: [
            np.concatenate(
                [
                    operators.rescale(array, source, results[0], rules)
                    for array, source in zip(arrays, sources)
                ],
                axis=values["axis"],
            )
        ]
    if op.kind == "scale":
        if values.get("scale", 1.0) != 1.0 or values.get("bias", 0.0) != 0.0:
            raise ToolError(f"the simulation has no operator scale that changes values ({op.name})")
        move = list
    elif op.kind == "transpose2":
        move = lambda arrays: [arrays[0].transpose(values["axis"])]  # noqa: E731
    elif op.kind == "split":
        ends = np.cumsum([shape[values["axis"]] for shape in shapes])[:-1]
        move = lambda arrays: np.split(arrays[0], ends, axis=values["axis"])  # noqa: E731
    elif op.kind == "nearest_interp_v2":
        if values.get("align_corners"):
            raise ToolError(f"the simulation has no nearest_interp_v2 with align_corners ({op.name})")
        given = graph.split.tensor(op.inputs[0][1]).shape
        rows, columns = (np.arange(shapes[0][axis]) * given[axis] // shapes[0][axis] for axis in (2, 3))
        move = lambda arrays: [arrays[0][:, :, rows][:, :, :, columns]]  # noqa: E731
    elif op.kind == "slice":
        cut = [slice(None)] * len(graph.split.tensor(op.inputs[0][1]).shape)
        for axis, start, end in zip(values["axes"], values["starts"], values["ends"]):
            cut[axis] = slice(start, end)
        move = lambda arrays: [arrays[0][tuple(cut)]]  # noqa: E731
    else:
        move = lambda arrays: [arrays[0].reshape(shapes[0])]  # noqa: E731
    return lambda arrays: [
        operators.rescale(array, sources[0], result, rules) for array, result in zip(move(arrays), results)
    ]


def _hard_swish(values) -> Callable:
    threshold, scale, offset = (values.get(key, default) for key, default in _HARD_SWISH)
    return lambda x: x * np.clip(x + offset, 0, threshold) / scale


_HARD_SWISH = (("threshold", 6.0), ("scale", 6.0), ("offset", 3.0))

# Functions of one tensor, by operator: attributes -> function.
_FUNCTIONS = {
    "relu": lambda values: lambda x: np.maximum(x, 0),
    "relu6": lambda values: lambda x: np.clip(x, 0, values.get("threshold", 6.0)),
    "leaky_relu": lambda values: lambda x: np.where(x > 0, x, x * values.get("alpha", 0.02)),
    "sigmoid": lambda values: lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda values: np.tanh,
    "hard_sigmoid": lambda values: lambda x: np.clip(
        x * values.get("slope", 0.2) + values.get("offset", 0.5), 0, 1
    ),
    "hard_swish": _hard_swish,
    "swish": lambda values: lambda x: x / (1 + np.exp(-values.get("beta", 1.0) * x)),
    "silu": lambda values: lambda x: x / (1 + np.exp(-x)),
}  # fmt: skip
