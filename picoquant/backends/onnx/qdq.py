"""An INT8 network as ONNX with QuantizeLinear and DequantizeLinear.

The operators come from paddle2onnx; what is INT8, and its scales, from the `Int8Network`. Weights are stored as int8
with a scale for each channel, biases as int32. Activations are uint8, see `quant_params.py`; relu, relu6 and hard
sigmoids are left to saturation, see `activations.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from picoquant.backends.onnx.activations import drop_clips, hard_sigmoids, join_hard_swish, split_hard_swish
from picoquant.backends.onnx.graph import Graph, Node
from picoquant.backends.onnx.inserter import replace_input, round_tensor, store_constant, store_integers
from picoquant.backends.onnx.ort.blocks import blocks_as_channels
from picoquant.backends.onnx.ort.channels import fill_channels
from picoquant.backends.onnx.ort.ends import drop_unreached_clips
from picoquant.backends.onnx.ort.gates import clip_gates, gates_of_bytes
from picoquant.backends.onnx.ort.kernels import cells_last, pad_input_channels, widen_thin_convolutions
from picoquant.backends.onnx.ort.layout import double_by_copying, gates_in_columns, stem_in_columns
from picoquant.backends.onnx.ort.shuffles import unshuffle
from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.backends.onnx.quant_params import UInt8Params, moves, uint8_params
from picoquant.backends.onnx.simplify import share_constants, simplify
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.passes.int32_bias import in_other_scales, with_exact_bias, with_room_for_bias
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.params import write_params

_PASSED_THROUGH = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")
_SMALLEST = 1e-12  # scale of a channel that is all zero; ONNX wants scales above 0


def make_onnx(network: Int8Network, exact: bool = False, kernels: bool = True) -> Any:
    """Make the ONNX model.

    Args:
        network: for one image.
        exact: one rounding behind hard-swish and hard sigmoids, as Paddle does and NPUs with a table; in float, but for
            the hard-swishes whose gate is a Clip of bytes (`ort/gates.py`). Else all in integers, which is faster, but
            rounds the gates of the other hard-swishes, too.
        kernels: shape what ONNX Runtime has faster kernels for, see `ort/`; for other runtimes that makes it slower.

    Returns: a checked `onnx.ModelProto`; its tensors have Paddle's names.

    Raises: `ToolError` when paddle2onnx refuses the network or has left out a quantised operator.
    """
    graph = float_graph(network)
    cells_last(graph)
    gates = gates_of_bytes(graph, network) if kernels else set()
    if not exact:
        split_hard_swish(graph, but=gates)
    weights = {operator.weight: operator for operator in network.operators}
    factors: dict[str, np.ndarray] = {}
    units = {} if exact else hard_sigmoids(graph, factors, weights, network.ranges)
    limits = drop_clips(graph, network.ranges, weights)
    params = uint8_params(graph, network, limits, units, weights)
    inserter = _Inserter(graph, factors, params)
    for weight in weights:
        inserter.weights(weight, [item for item in network.operators if item.weight == weight])
    inserter.activations()
    clip_gates(graph, gates)
    unshuffle(graph)
    split_hard_swish(graph)  # what is left of them is in float
    blocks_as_channels(graph, fill=kernels)
    if kernels:
        drop_unreached_clips(graph)
        widen_thin_convolutions(graph, graph.shapes)
        fill_channels(graph)
        gates_in_columns(graph)
        stem_in_columns(graph)
        pad_input_channels(graph)
        double_by_copying(graph)
    share_constants(graph)
    return checked(graph)


def float_graph(network: Int8Network) -> Graph:
    """The operators of a network as a simple ONNX graph in float; hard-swish is one operator, HardSwish.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    with tempfile.TemporaryDirectory(prefix="picoquant-network-") as scratch:
        model, params = Path(scratch) / "model.pdmodel", Path(scratch) / "model.pdiparams"
        write_program(network.program, model)
        write_params(network.program, network.values, params)
        graph = Graph(paddle_to_onnx(model, params))
    simplify(graph, {variable.name for variable in network.program.blocks[0].vars})
    join_hard_swish(graph)
    return graph


def computing_nodes(
    graph: Graph, weight: str, operators: Sequence[QuantizedOperator]
) -> list[tuple[Node, Node, QuantizedOperator]]:
    """The nodes of the operators that share a weight.

    Args:
        graph: with the weight in float.
        weight: its name.
        operators: all that take it, in the network's order, which is the nodes' order, too.

    Returns: for each operator the node that takes the weight, and the one that multiplies by it: the weight may be
        reshaped first.

    Raises: `ToolError` when there are not as many nodes.
    """
    users = graph.users(weight)
    if len(users) != len(operators):
        names = ", ".join(operator.output for operator in operators)
        raise ToolError(
            f"paddle2onnx made {len(users)} nodes with weight {weight} of the {len(operators)} operators "
            f"{names}; report the model to picoquant"
        )
    found = []
    for user, operator in zip(users, operators):
        node = user
        while node.op_type in _PASSED_THROUGH:
            node = graph.users(node.output[0])[0]
        found.append((user, node, operator))
    return found


def with_every_tensor(model: Any, network: Int8Network) -> Any:
    """The model of `make_onnx` with what it leaves in float rounded, too, as an NPU computes that runs nothing else.

    Args:
        model: stays as it is.
        network: that it was made of; tensors without a range stay float.

    Returns: `model` itself where it leaves nothing in float.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    params = {
        name: UInt8Params.up_to(network.ranges[name], signed=not network.tensors[name].non_negative)
        if network.tensors[name].params.is_symmetric
        else UInt8Params.of_network(network.tensors[name].params)
        for name in _in_float(graph, network)
    }
    if not params:
        return model
    _Inserter(graph, {}, params).round_activations()
    return checked(graph)


def _in_float(graph: Graph, network: Int8Network) -> list[str]:
    """The tensors that an NPU holds and that an ONNX graph does not round, nor moves from one of the same range."""
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.output)}
    ranges = network.ranges
    rounded = {name: absmax for name, absmax in ranges.items() if stored_name(name) in made}
    for node in filter(moves, graph.nodes):
        absmax = rounded.get(node.input[0].removesuffix(".back"))
        if absmax is not None:
            rounded.update((name, absmax) for name in node.output if ranges.get(name, absmax) == absmax)
    return [name for name in network.held if name in ranges and name in made and name not in rounded]


def stored_name(name: str) -> str:
    """Name of the integers of a tensor."""
    return f"{name}.uint8"


def checked(graph: Any) -> Any:
    """A graph as a model that onnx's checker has passed.

    Raises: `ToolError` with the checker's word.
    """
    graph.model.producer_name, graph.model.producer_version = "picoquant", ""
    model = graph.finish()
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ToolError(f"the ONNX model is not valid: {str(error).splitlines()[0]}") from error
    return model


class _Inserter:
    """Puts quantising nodes round the operators of a graph.

    Args:
        graph: the network.
        factors: for the output channels of convolutions, see `hard_sigmoids`.
        params: of the tensors that are quantised.
    """

    def __init__(
        self, graph: Any, factors: Mapping[str, np.ndarray], params: Mapping[str, UInt8Params]
    ) -> None:
        self._graph, self._factors, self._params = graph, factors, params

    def weights(self, weight: str, operators: Sequence[QuantizedOperator]) -> None:
        """Store a weight and the biases of the nodes that take it as integers, see `computing_nodes`."""
        for user, node, operator in computing_nodes(self._graph, weight, operators):
            self._one(user, node, operator)

    def _one(self, user: Any, node: Any, operator: QuantizedOperator) -> None:
        integers, scales = operator.integers, np.maximum(operator.scales, _SMALLEST)
        computed = next(name for name in node.input if name not in self._graph.constants)
        bias = None
        if node.op_type == "Conv":
            bias = self._graph.constants.get(node.input[2]) if len(node.input) > 2 else None
            scales = scales * self._factors.get(node.name, 1.0)
        if bias is not None and computed in self._params:
            step = float(np.float32(self._params[computed].read_scale))
            fitting = with_room_for_bias(scales, bias, step)
            if node.output[0] in self._params:
                fitting = with_exact_bias(fitting, bias, step, self._params[node.output[0]].scale)
            integers, scales = in_other_scales(integers, scales, fitting), fitting
            scales = scales.astype(np.float32).astype(np.float64)
            together = np.broadcast_to(scales * step, bias.shape)
            rounded = np.rint(bias.astype(np.float64) / together).astype(np.int32)
            node.input[2] = store_integers(self._graph, node, f"{node.name}.bias", rounded, together, 0)
        axis = operator.params.axis if len(scales) > 1 else -1
        name = store_integers(self._graph, user, f"{node.name}.weight", integers, scales, axis)
        replace_input(user, operator.weight, name)

    def activations(self) -> None:
        """Quantise and scale back every tensor that has levels, and constants beside such tensors."""
        for node in list(self._graph.nodes):
            if node.op_type in ("Add", "Mul", "Concat") and node.output[0] in self._params:
                for name in [name for name in node.input if name in self._graph.constants]:
                    self._constant(node, name)
        self.round_activations()

    def round_activations(self) -> None:
        """Quantise and scale back every tensor that has levels."""
        for name, params in self._params.items():
            self._activation(name, params)

    def _activation(self, name: str, params: UInt8Params) -> None:
        ends = params.ends if params.clipped else None
        round_tensor(self._graph, name, params.scale, np.uint8(params.zero_point), params.read_scale, ends)

    def _constant(self, node: Any, name: str) -> None:
        """Store a constant in levels of its own."""
        value = self._graph.constants[name].astype(np.float64)
        params = UInt8Params.up_to(float(np.abs(value).max()) or 1.0, signed=bool((value < 0).any()))
        numbers = np.clip(np.rint(value / np.float32(params.scale)) + params.zero_point, 0, 255)
        store_constant(self._graph, node, name, numbers, params.scale, np.uint8(params.zero_point))
