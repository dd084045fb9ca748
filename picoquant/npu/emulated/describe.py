"""A simulated network as the operators that Paddle Lite's driver hands to a VeriSilicon NPU.

NNAdapter unpacks a ReLU or ReLU6 that was fused into a convolution into an operator of its own, both tensors with the
same scale (`driver/verisilicon_timvx/optimizer/unpack_op_fusion.cc`), and gives all tensors UINT8 with zero point 128
(`optimizer/convert_quantization_symm_to_asymm.cc`), weights with a scale for each channel excepted. What is handed over
is picoquant's own integer form, in which a ReLU6 is a ReLU where the tensor's range ends at 6, and which ends in maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from picoquant.backends.paddle_lite.integer_form import saturates_at
from picoquant.backends.paddle_lite.output_maps import OutputMap, output_maps
from picoquant.backends.verisilicon.description import FORMS, Description, Form
from picoquant.errors import ToolError
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import quantise, target_params
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.npu.simulation.steps import fused_limits, geometry_of, sum_scales_and_bias
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.paddings import explicit_paddings

_SINGLE = {"sigmoid": "sigmoid", "hard_swish": "hard_swish", "relu": "relu", "relu6": "relu6"}
_PAIRS = {"elementwise_add": "add", "elementwise_mul": "multiply"}
_RESHAPES = ("reshape2", "flatten_contiguous_range", "squeeze2", "unsqueeze2", "scale", "assign")


def form_of(simulation: NpuSimulation) -> Form:
    """How NNAdapter stores the tensors of a network."""
    return FORMS["int8_per_channel" if simulation.per_channel else "uint8_per_tensor"]


def describe_network(simulation: NpuSimulation, form: Form, every: bool = False) -> Description:
    """A whole network.

    Args:
        simulation: of an INT8 network, with a target's rules.
        form: of its tensors.
        every: every tensor that the simulation holds is a result, which keeps the driver from some fusions; else
            the network's outputs are, or rather what `ends` names.

    Raises: `ToolError` naming an operator that is not known there.
    """
    network = Description(form)
    numbers: dict[str, int] = {}

    def source(name: str) -> int:
        return numbers[name]

    def declared(name: str, looked_at: bool) -> int:
        shape, params = _shape(simulation, name), simulation.params[name]
        if looked_at:
            numbers[name] = network.output(name, shape, params.scale, _zero(params, form))
        else:
            numbers[name] = network.between(shape, params.scale, _zero(params, form))
        return numbers[name]

    def result(name: str) -> int:
        return numbers[name] if name in numbers else declared(name, every)

    for name in simulation.input_names:
        params = simulation.params[name]
        numbers[name] = network.input(name, _shape(simulation, name), params.scale, _zero(params, form))
    if not every:  # in the network's order, which a compiled network keeps
        for name in ends(simulation).values():
            declared(name, True)
    left_out = {op.name for one in _maps(simulation).values() for op in one.left_out}
    for op in simulation.graph.operators:
        if op.name not in left_out and not describe(network, op, simulation, source, result):
            raise ToolError(
                f"{op.op_type} {op.name} has no counterpart here for VeriSilicon's emulator: without --emulator its "
                "integers are simulated"
            )
    return network


def ends(simulation: NpuSimulation) -> dict[str, str]:
    """What is handed over in place of each output, in order: the map it is made of, or the output itself."""
    maps = _maps(simulation)
    return {name: maps[name].name if name in maps else name for name, _ in simulation.outputs}


def _maps(simulation: NpuSimulation) -> dict[str, OutputMap]:
    return output_maps(simulation.graph.graph, simulation.params.get)


def describe_apart(simulation: NpuSimulation, form: Form) -> tuple[Description, dict[str, str]]:
    """Every operator by itself, with inputs of its own.

    Returns: the description, in which the input of an operator that computes `result` of `name` is called
        `name > result`; and the type of the operator that computes each result. Operators that are not known there
        are left out.
    """
    network, kinds = Description(form), {}
    for op in simulation.graph.operators:
        made: list[str] = []

        def source(name: str, op: Operator = op) -> int:
            params = simulation.params[name]
            own = f"{name} > {op.name}"
            return network.input(own, _shape(simulation, name), params.scale, _zero(params, form))

        def result(name: str, made: list[str] = made) -> int:
            made.append(name)
            params = simulation.params[name]
            return network.output(name, _shape(simulation, name), params.scale, _zero(params, form))

        if known(op, simulation):
            describe(network, op, simulation, source, result)
            kinds.update(dict.fromkeys(made, op.op_type))
    return network, kinds


Number = Callable[[str], int]


def known(op: Operator, simulation: NpuSimulation) -> bool:
    """Whether an operator can be described."""
    network = Description(form_of(simulation))

    def number(name: str) -> int:
        return network.between((1, 1, 1), 1.0)

    return describe(network, op, simulation, number, number)


def describe(
    network: Description, op: Operator, simulation: NpuSimulation, source: Number, result: Number
) -> bool:
    """Add one operator.

    Args:
        network: what it is added to.
        op: an operator of the simulated network.
        simulation: of that network.
        source, result: the number of the tensor of a name that it reads, or computes.

    Returns: whether such an operator is known; nothing is added else.
    """
    graph = simulation.graph
    if op.op_type in CONVOLUTIONS:
        return op.name in graph.quantised and _convolution(network, op, simulation, source, result)
    names = [name for _, name in op.inputs if name not in graph.values]
    if op.op_type in _PAIRS:
        return _pair(network, op, simulation, source, result)
    if op.op_type in _SINGLE:
        network.node(_SINGLE[op.op_type], [], [source(names[0])], [result(op.name)], op.name)
    elif op.op_type == "hard_sigmoid":
        values = [op.attributes.get("slope", 0.2), op.attributes.get("offset", 0.5)]
        network.node("hard_sigmoid", values, [source(names[0])], [result(op.name)], op.name)
    elif op.op_type == "pool2d":
        return _pool(network, op, simulation, source, result)
    elif (
        op.op_type in _RESHAPES
        and simulation.params[names[0]].scale == simulation.params[op.results[0]].scale
    ):
        shape = graph.graph.tensor(op.results[0]).shape
        network.node("reshape", shape[::-1], [source(names[0])], [result(op.results[0])], op.name)
    else:
        return _moved(network, op, simulation, names, source, result)
    return True


def _moved(
    network: Description,
    op: Operator,
    simulation: NpuSimulation,
    names: Sequence[str],
    source: Number,
    result: Number,
) -> bool:
    """Operators that move values. The driver's axes count from the innermost."""
    graph, values = simulation.graph, op.attributes
    results = op.results
    rank = len(graph.graph.tensor(names[0]).shape)
    if op.op_type == "concat":
        inputs = [source(name) for name in names]
        network.node("concat", [rank - 1 - values["axis"] % rank], inputs, [result(op.name)], op.name)
    elif op.op_type == "nearest_interp_v2":
        size = graph.graph.tensor(op.name).shape[2:]
        network.node("resize", size[::-1], [source(names[0])], [result(op.name)], op.name)
    elif op.op_type == "transpose2":
        axes = [rank - 1 - axis for axis in values["axis"]][::-1]
        network.node("permute", axes, [source(names[0])], [result(results[0])], op.name)
    elif op.op_type == "split":
        axis = values["axis"] % rank
        sizes = [graph.graph.tensor(name).shape[axis] for name in results]
        made = [result(name) for name in results]
        network.node("split", [rank - 1 - axis, *sizes], [source(names[0])], made, op.name)
    elif op.op_type == "slice":
        shape, cut = graph.graph.tensor(names[0]).shape, dict(zip(values["axes"], values["starts"]))
        starts = [cut.get(axis, 0) % shape[axis] for axis in range(rank)]
        lengths = graph.graph.tensor(results[0]).shape
        parameters = [*starts[::-1], *lengths[::-1]]
        network.node("slice", parameters, [source(names[0])], [result(results[0])], op.name)
    else:
        return False
    return True


def _pair(
    network: Description, op: Operator, simulation: NpuSimulation, source: Number, result: Number
) -> bool:
    graph, rules = simulation.graph, simulation.rules
    first, second = (dict(op.inputs)[slot] for slot in ("X0", "Y0"))
    shape = graph.graph.tensor(op.name).shape
    kind = _PAIRS[op.op_type]
    if second in graph.values:
        value = graph.values[second]
        params = target_params(float(np.abs(value).max()) or 1.0, rules, bool((value >= 0).all()))
        axis = op.attributes.get("axis", -1)
        after = 0 if axis < 0 else len(shape) - axis - value.ndim
        stored = quantise(value, params, rules.arithmetic.rounding).reshape(*value.shape, *[1] * after)
        stored = stored.reshape(*[1] * (len(shape) - stored.ndim), *stored.shape)[0]
        other = network.constant(stored, params.scale, _zero(params, network.form))
        network.node(kind, [], [source(first), other], [result(op.name)], op.name)
        return True
    if len(graph.graph.tensor(first).shape) != len(graph.graph.tensor(second).shape):
        return False
    network.node(kind, [], [source(first), source(second)], [result(op.name)], op.name)
    return True


def _pool(
    network: Description, op: Operator, simulation: NpuSimulation, source: Number, result: Number
) -> bool:
    graph, values = simulation.graph.graph, op.attributes
    name = op.inputs[0][1]
    size, cells = graph.tensor(name).shape[2:], graph.tensor(op.name).shape[2:]
    window, steps, padding = tuple(values["ksize"]), tuple(values["strides"]), (0, 0, 0, 0)
    if values.get("global_pooling") or values.get("adaptive"):
        if any(length % count for length, count in zip(size, cells)):
            return False
        window = steps = tuple(length // count for length, count in zip(size, cells))
    else:
        padding = explicit_paddings(values, window, size)
    kind = "max" if values["pooling_type"] == "max" else "average"
    if kind == "average" and any(padding):
        return False
    top, bottom, left, right = padding
    parameters = [*window[::-1], *steps[::-1], left, right, top, bottom]
    network.node(kind, parameters, [source(name)], [result(op.name)], op.name)
    return True


def _convolution(
    network: Description, op: Operator, simulation: NpuSimulation, source: Number, result: Number
) -> bool:
    """A convolution with its bias, and its ReLU as an operator behind it."""
    graph = simulation.graph
    layer, own = graph.network.layers[op.name], graph.quantised[op.name]
    name = op.input("Input0")
    geometry = geometry_of(op, graph)
    depthwise = own.integers.shape[1] == 1 and geometry.groups == len(own.integers)
    if geometry.groups > 1 and not depthwise:
        return False
    sums, bias = sum_scales_and_bias(own, graph, simulation.rules, simulation.params[name])
    scales = np.broadcast_to(own.scales, (len(own.integers),))
    weight = network.weight(own.integers, scales, depthwise)
    stored = network.bias(bias, np.broadcast_to(sums, (len(bias),)))
    top, bottom, left, right = geometry.padding
    height, width = own.integers.shape[2:]
    steps, gaps = geometry.strides[::-1], geometry.dilations[::-1]
    window = [width, height, *steps, left, right, top, bottom, *gaps, len(bias)]
    inputs = [source(name), weight, stored]
    kind = "depthwise" if depthwise else "conv"
    low, high = fused_limits(layer)
    if math.isinf(low):
        network.node(kind, window, inputs, [result(layer.output)], layer.output)
        return True
    params = simulation.params[layer.output]
    inner = network.between(_shape(simulation, layer.output), params.scale, _zero(params, network.form))
    network.node(kind, window, inputs, [inner], layer.output)
    activation = "relu" if math.isinf(high) or saturates_at(params, high) else "relu6"
    network.node(activation, [], [inner], [result(layer.output)], layer.output)
    return True


def _shape(simulation: NpuSimulation, name: str) -> tuple[int, ...]:
    """Of a tensor for one image, without the images' axis."""
    return tuple(simulation.graph.graph.tensor(name).shape[1:])


def _zero(params: QuantParams, form: Form) -> int:
    """The zero point; INT8 tensors have 0."""
    return int(params.zero_point) if form.name == "u8" else 0
