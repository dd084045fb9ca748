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
from picoquant.backends.onnx.graph import Graph, make_node
from picoquant.backends.onnx.ort_kernels import cells_last, pad_input_channels, widen_thin_convolutions
from picoquant.backends.onnx.ort_layout import double_by_copying, stem_in_columns
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


def make_onnx(network: Int8Network, exact: bool = False) -> Any:
    """Make the ONNX model.

    Args:
        network: for one image.
        exact: compute hard-swish and hard sigmoids in float, one rounding behind each, as Paddle does and NPUs with a
            table; else in integers, which is faster, but rounds the gate of a hard-swish, too.

    Returns: a checked `onnx.ModelProto`; its tensors have Paddle's names.

    Raises: `ToolError` when paddle2onnx refuses the network or has left out a quantised operator.
    """

    with tempfile.TemporaryDirectory(prefix="picoquant-network-") as scratch:
        model, params = Path(scratch) / "model.pdmodel", Path(scratch) / "model.pdiparams"
        write_program(network.program, model)
        write_params(network.program, network.values, params)
        graph = Graph(paddle_to_onnx(model, params))
    simplify(graph, {variable.name for variable in network.program.blocks[0].vars})
    cells_last(graph)
    join_hard_swish(graph)
    if not exact:
        split_hard_swish(graph)
    weights = {operator.weight: operator for operator in network.operators}
    factors: dict[str, np.ndarray] = {}
    units = {} if exact else hard_sigmoids(graph, factors, weights, network.absmax)
    limits = drop_clips(graph, network.absmax, weights)
    params = uint8_params(graph, network, limits, units, weights)
    inserter = _Inserter(graph, factors, params)
    for weight in weights:
        inserter.weights(weight, [item for item in network.operators if item.weight == weight])
    inserter.activations()
    split_hard_swish(graph)  # what is left of them is in float
    widen_thin_convolutions(graph, graph.shapes)
    stem_in_columns(graph)
    pad_input_channels(graph)
    double_by_copying(graph)
    share_constants(graph)
    return checked(graph)


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
        name: UInt8Params.up_to(network.absmax[name], signed=not network.tensors[name].non_negative)
        for name in _in_float(graph, network)
    }
    if not params:
        return model
    _Inserter(graph, {}, params).round_activations()
    return checked(graph)


def _in_float(graph: Graph, network: Int8Network) -> list[str]:
    """The tensors that an NPU holds and that an ONNX graph does not round, nor moves from one of the same range."""
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.output)}
    ranges = network.absmax
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
        """Store a weight and the biases of the nodes that take it as integers.

        Args:
            weight: its name.
            operators: all that share it, in the network's order, which is the nodes' order, too.

        Raises: `ToolError` when there are not as many nodes.
        """
        users = self._graph.users(weight)
        if len(users) != len(operators):
            names = ", ".join(operator.output for operator in operators)
            raise ToolError(
                f"paddle2onnx made {len(users)} nodes with weight {weight} of the {len(operators)} operators "
                f"{names}; report the model to picoquant"
            )
        for user, operator in zip(users, operators):
            self._one(user, self._computing(user), operator)

    def _computing(self, node: Any) -> Any:
        """The node that multiplies by a weight which may be reshaped first."""
        while node.op_type in _PASSED_THROUGH:
            node = self._graph.users(node.output[0])[0]
        return node

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
            node.input[2] = self._dequantised(node, f"{node.name}.bias", rounded, together, 0)
        axis = operator.params.axis if len(scales) > 1 else -1
        name = self._dequantised(user, f"{node.name}.weight", integers, scales, axis)
        _replace(user, operator.weight, name)

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
        graph, maker = self._graph, self._graph.producer(name)
        users = graph.users(name)
        source, back = name, f"{name}.back"
        if name in graph.outputs and maker is not None:
            source, back = f"{name}.float", name
            maker.output[list(maker.output).index(name)] = source
            maker.name = source if maker.name == back else maker.name
        if not users and back != name:
            return
        scaling = self._scaling(name, params.scale, params.zero_point)
        reading = self._scaling(f"{name}.read", params.read_scale, params.zero_point)
        stored, new = stored_name(name), []
        rounded = f"{name}.rounded" if params.clipped else stored
        new.append(make_node("QuantizeLinear", [source, *scaling], [rounded], rounded))
        if params.clipped:
            ends = [f"{name}.lowest", f"{name}.highest"]
            graph.constants.update(zip(ends, map(np.uint8, params.ends)))
            new.append(make_node("Clip", [rounded, *ends], [stored], stored))
        new.append(make_node("DequantizeLinear", [stored, *reading], [back], back))
        for user in users:
            _replace(user, name, back)
        place = 0 if maker is None else 1 + next(i for i, node in enumerate(graph.nodes) if node is maker)
        graph.nodes[place:place] = new

    def _constant(self, node: Any, name: str) -> None:
        """Store a constant in levels of its own."""
        value = self._graph.constants[name].astype(np.float64)
        params = UInt8Params.up_to(float(np.abs(value).max()) or 1.0, signed=bool((value < 0).any()))
        numbers = np.clip(np.rint(value / np.float32(params.scale)) + params.zero_point, 0, 255)
        stem = f"{name}.constant"
        self._graph.constants[f"{stem}.uint8"] = numbers.astype(np.uint8)
        inputs = [f"{stem}.uint8", *self._scaling(stem, params.scale, params.zero_point)]
        self._graph.insert_before(node, [make_node("DequantizeLinear", inputs, [f"{node.name}.{stem}"])])
        _replace(node, name, f"{node.name}.{stem}")

    def _scaling(self, name: str, scale: float, zero_point: int) -> list[str]:
        self._graph.constants[f"{name}.scale"] = np.array(scale, np.float32)
        self._graph.constants[f"{name}.zero"] = np.array(zero_point, np.uint8)
        return [f"{name}.scale", f"{name}.zero"]

    def _dequantised(self, node: Any, name: str, integers: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """Store integers, and insert what scales them back before `node`; returns that tensor's name."""
        per_channel = axis >= 0
        values = scales.astype(np.float32) if per_channel else np.float32(scales[0])
        self._graph.constants[f"{name}.levels"] = integers
        self._graph.constants[f"{name}.scale"] = np.asarray(values)
        axes = {"axis": axis} if per_channel else {}
        inputs = [f"{name}.levels", f"{name}.scale"]
        if integers.dtype == np.int8:
            # 0, which is the default; ONNX Runtime's exact way on x86 without VNNI needs it written, a value a scale.
            inputs.append(f"{name}.zero")
            self._graph.constants[inputs[-1]] = np.zeros(np.shape(values), np.int8)
        self._graph.insert_before(node, [make_node("DequantizeLinear", inputs, [name], name, **axes)])
        return name


def _replace(node: Any, old: str, new: str) -> None:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
