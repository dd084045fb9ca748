"""Each operator of a simulated network beside the same operator on VeriSilicon's emulator, with the same inputs.

All operators go into one network of the emulator, each by itself: its inputs are what the simulation computes. So a
difference is the operator's own, and one run shows all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from picoquant.backends.verisilicon.emulator import FORMS, Description, run
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.npu.simulation.steps import fused_limits, geometry_of, sum_scales_and_bias
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.utils.tables import columns

_NODES = {
    "elementwise_add": "add",
    "elementwise_mul": "multiply",
    "sigmoid": "sigmoid",
    "hard_swish": "hard_swish",
}
_IMAGE = 4  # axes


@dataclass(frozen=True)
class Agreement:
    """How operators of one type agree.

    Attributes:
        op_type: of the operators.
        operators, identical: how many there are, and of how many every value is the same.
        values, differing: values of their results, and how many of them differ.
        largest: the largest difference, in levels.
    """

    op_type: str
    operators: int
    identical: int
    values: int
    differing: int
    largest: int


def compare_with_emulator(
    simulation: NpuSimulation, feed: Mapping[str, np.ndarray], tool: Emulator, chip: str
) -> list[Agreement]:
    """Run every operator of a network that computes values on the emulator, once.

    Args:
        simulation: of an INT8 network, with the target's rules.
        feed: one image.
        tool: the emulator.
        chip: its name of the NPU.

    Returns: one row for each type of operator, in the network's order.

    Raises: `ToolError` when the emulator refuses the operators, crashes, or has no memory.
    """
    tensors = simulation.run_steps(feed, keep=True)
    form = FORMS["int8_per_channel" if simulation.per_channel else "uint8_per_tensor"]
    network, kinds = Description(form), {}
    for op in simulation.graph.operators:
        result = _describe(network, op, simulation, tensors)
        if result:
            kinds[result] = op.op_type
    found = run(tool, chip, network, timeout=3600.0)
    rows: dict[str, list[np.ndarray]] = {}
    for name, kind in kinds.items():
        rows.setdefault(kind, []).append(np.abs(found[name] - tensors[name][0].reshape(found[name].shape)))
    return [
        Agreement(
            kind,
            len(parts),
            sum(not part.any() for part in parts),
            sum(part.size for part in parts),
            sum(int((part > 0).sum()) for part in parts),
            max(int(part.max()) for part in parts),
        )
        for kind, parts in rows.items()
    ]


def generated_image(simulation: NpuSimulation) -> dict[str, np.ndarray]:
    """A feed of one image that takes all values of the input's range: blurred noise, always the same."""
    name = simulation.input_names[0]
    shape = simulation.graph.graph.tensor(name).shape
    noise = np.random.RandomState(0).standard_normal(shape[1:]).transpose(1, 2, 0)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    params = simulation.params[name]
    low = 0.0 if params.zero_point in (0, 128) else float(params.lowest)
    return {name: (low + smooth * (float(params.highest) - low)).transpose(2, 0, 1)[None].astype(np.float32)}


def agreement_table(rows: list[Agreement]) -> str:
    """The rows as a table of text."""
    lines = [("operator", "operators", "identical", "values", "differing", "largest")]
    lines += [
        (row.op_type, *map(str, (row.operators, row.identical, row.values, row.differing, row.largest)))
        for row in rows
    ]
    return columns(lines)


class _Operators:
    """Tensors of a simulation as inputs and results of single operators of the emulator."""

    def __init__(
        self, network: Description, simulation: NpuSimulation, tensors: Mapping[str, np.ndarray]
    ) -> None:
        self.network, self._params, self._tensors = network, simulation.params, tensors

    def input(self, name: str) -> int:
        params = self._params[name]
        return self.network.input(self._tensors[name][0], params.scale, self._zero(name))

    def output(self, name: str) -> int:
        shape = self._tensors[name].shape[1:]
        return self.network.output(name, self._params[name].scale, shape, self._zero(name))

    def between(self, name: str) -> int:
        return self.network.between(self._params[name].scale, self._tensors[name].shape[1:])

    def _zero(self, name: str) -> int:
        """The zero point; per channel all tensors are INT8 with 0."""
        return 0 if self.network.form.per_channel else int(self._params[name].zero_point)


def _describe(
    network: Description, op: Operator, simulation: NpuSimulation, tensors: Mapping[str, np.ndarray]
) -> str | None:
    """Add one operator; returns the name of its result, None for one that only moves values."""
    operators = _Operators(network, simulation, tensors)
    graph = simulation.graph
    if op.op_type in CONVOLUTIONS:
        return _convolution(operators, op, simulation) if op.name in graph.quantised else None
    names = [name for _, name in op.inputs if name in tensors]
    images = all(tensors[name].ndim == _IMAGE for name in (*names, *op.results))
    if op.op_type in _NODES and images and len(names) == len(op.inputs):
        inputs = [operators.input(name) for name in names]
        network.node(_NODES[op.op_type], [], inputs, [operators.output(op.name)])
        return op.name
    if op.op_type == "hard_sigmoid" and images:
        values = [op.attributes.get("slope", 0.2), op.attributes.get("offset", 0.5)]
        network.node("hard_sigmoid", values, [operators.input(names[0])], [operators.output(op.name)])
        return op.name
    if op.op_type == "pool2d" and op.attributes.get("global_pooling", op.attributes.get("adaptive")):
        height, width = tensors[names[0]].shape[2:]
        if tensors[op.name].shape[2:] != (1, 1):
            return None
        kind = "max" if op.attributes["pooling_type"] == "max" else "average"
        window = [width, height, width, height, 0, 0, 0, 0]
        network.node(kind, window, [operators.input(names[0])], [operators.output(op.name)])
        return op.name
    return None


def _convolution(operators: _Operators, op: Operator, simulation: NpuSimulation) -> str | None:
    """A convolution with its bias and ReLU; None for groups that are neither one nor as many as channels."""
    graph, network = simulation.graph, operators.network
    layer, own = graph.network.layers[op.name], graph.quantised[op.name]
    source = op.input("Input0")
    geometry = geometry_of(op, graph)
    depthwise = own.integers.shape[1] == 1 and geometry.groups == len(own.integers)
    if geometry.groups > 1 and not depthwise:
        return None
    sums, bias = sum_scales_and_bias(own, graph, simulation.rules, simulation.params[source])
    scales = np.broadcast_to(own.scales, (len(own.integers),))
    weight = network.weight(own.integers, scales, depthwise)
    stored = network.bias(bias, np.broadcast_to(sums, (len(bias),)))
    top, bottom, left, right = geometry.padding
    height, width = own.integers.shape[2:]
    window = [
        width,
        height,
        *geometry.strides[::-1],
        left,
        right,
        top,
        bottom,
        *geometry.dilations[::-1],
        len(bias),
    ]
    inputs = [operators.input(source), weight, stored]
    kind = "depthwise" if depthwise else "conv"
    low, high = fused_limits(layer)
    if math.isinf(low):
        network.node(kind, window, inputs, [operators.output(layer.output)])
        return layer.output
    inner = operators.between(layer.output)
    network.node(kind, window, inputs, [inner])
    network.node("relu" if math.isinf(high) else "relu6", [], [inner], [operators.output(layer.output)])
    return layer.output
