"""An INT8 ONNX with QuantizeLinear and DequantizeLinear, of an INT8 Paddle program.

The network comes from paddle2onnx; what is INT8 and its scales come from the Paddle program. Weights are
stored as int8 with a scale for each channel, biases as int32, and batch-norm is folded: its factor goes into
the weights' scales, so the integers stay those that the training found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import ToolError
from picoquant.packaging.onnx_float import paddle_to_onnx
from picoquant.packaging.program_edit import write_program
from picoquant.packaging.quantised import QuantizedOperator, QuantizedProgram

_PASSED_THROUGH = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")
_SMALLEST = 1e-12  # scale of a channel that is all zero; ONNX wants scales above 0
_FELT = 0.1  # of an activation's level: what the bias may lose in rounding
_LARGEST_BIAS = 2.0**30  # half of what int32 holds, so that sums on top of it fit


def make_onnx(quantised: QuantizedProgram, params: Path) -> Any:
    """Make the ONNX model.

    Args:
        quantised: the program, taken apart.
        params: its `.pdiparams`.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` when paddle2onnx refuses the network or has left out a quantised operator.
    """
    import onnx

    from picoquant.packaging.onnx_graph import Graph, fold_batch_norm

    with tempfile.TemporaryDirectory(prefix="picoquant-network-") as scratch:
        network = Path(scratch) / "model.pdmodel"
        write_program(quantised.network, network)
        graph = Graph(paddle_to_onnx(network, params))
    factors = fold_batch_norm(graph)
    _scale_float_weights(graph, factors, {operator.weight for operator in quantised.operators})
    level = float(np.median([operator.activation_scale for operator in quantised.operators]))
    inserter = _Inserter(graph, factors, level)
    for weight in dict.fromkeys(operator.weight for operator in quantised.operators):
        inserter.quantise(weight, [item for item in quantised.operators if item.weight == weight])
    graph.model.producer_name, graph.model.producer_version = "picoquant", ""
    model = graph.finish()
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ToolError(f"the INT8 ONNX model is not valid: {str(error).splitlines()[0]}") from error
    return model


def _scale_float_weights(graph: Any, factors: Mapping[str, np.ndarray], quantised: set[str]) -> None:
    """Put batch-norm's factors into the weights of convolutions that stay float."""
    for node in graph.nodes:
        if node.op_type != "Conv" or node.input[1] in quantised or node.output[0] not in factors:
            continue
        weight = graph.constants[node.input[1]]
        factor = factors[node.output[0]].reshape([-1] + [1] * (weight.ndim - 1))
        name = f"{node.output[0]}.weight"
        graph.constants[name] = (weight * factor).astype(np.float32)
        node.input[1] = name


class _Inserter:
    """Puts quantising nodes round the operators of a graph.

    Args:
        graph: the network.
        factors: of the folded batch-norms, see `fold_batch_norm`.
        level: the value of a usual activation's level.
    """

    def __init__(self, graph: Any, factors: Mapping[str, np.ndarray], level: float) -> None:
        self._graph, self._factors, self._level = graph, factors, level
        self._activations: dict[tuple[str, float], str] = {}

    def quantise(self, weight: str, operators: Sequence[QuantizedOperator]) -> None:
        """Make the nodes that take a weight compute on integers.

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
        levels, scales = operator.levels, operator.weight_scales.astype(np.float64)
        bias = None
        if node.op_type == "Conv":
            factor = self._factors.get(node.output[0])
            bias = self._graph.constants.get(node.input[2]) if len(node.input) > 2 else None
            levels, scales = with_factor(levels, scales, factor, operator.axis)
            if bias is not None:
                levels, scales = with_room_for_bias(levels, scales, bias, operator.activation_scale)
        axis = operator.axis if len(scales) > 1 else -1
        name = f"{node.output[0]}.weight"
        weight = self._dequantised(user, name, levels, scales, axis)
        _replace(user, operator.weight, weight)
        if bias is not None:
            self._set_bias(node, bias, scales * operator.activation_scale)
        computed = next(name for name in node.input if name not in (weight, *self._graph.constants))
        _replace(node, computed, self._activation(node, computed, operator.activation_scale))

    def _dequantised(self, node: Any, name: str, levels: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """Store levels, and insert what scales them back before `node`; returns that tensor's name."""
        from onnx import helper

        per_channel = axis >= 0
        values = scales.astype(np.float32) if per_channel else np.float32(scales[0])
        self._graph.constants[f"{name}.levels"] = levels
        self._graph.constants[f"{name}.scale"] = np.asarray(values)
        self._graph.constants[f"{name}.zero"] = np.zeros(np.shape(values), levels.dtype)
        inputs = [f"{name}.levels", f"{name}.scale", f"{name}.zero"]
        axes = {"axis": axis} if per_channel else {}
        self._graph.insert_before(node, [helper.make_node("DequantizeLinear", inputs, [name], name, **axes)])
        return name

    def _set_bias(self, node: Any, bias: np.ndarray, scales: np.ndarray) -> None:
        """Store the bias as int32; what rounding takes from it is added behind where it would be felt.

        It is felt in channels whose inputs are always zero: batch-norm divides by their variance of
        almost nothing, so their weights' scale, and with it the bias', is thousands of times the usual.
        """
        from onnx import helper

        scales = np.broadcast_to(scales, bias.shape)
        levels = np.rint(bias.astype(np.float64) / scales).astype(np.int32)
        output = node.output[0]
        node.input[2] = self._dequantised(node, f"{output}.bias32", levels, scales, 0)
        lost = bias - levels * scales
        if np.abs(lost).max() > _FELT * self._level:
            shape = [1, -1] + [1] * (self._graph.constants[f"{output}.weight.levels"].ndim - 2)
            self._graph.constants[f"{output}.rest"] = lost.astype(np.float32).reshape(shape)
            node.output[0] = f"{output}.rounded"
            add = helper.make_node("Add", [node.output[0], f"{output}.rest"], [output], f"{output}.rest")
            self._graph.insert_after(node, add)

    def _activation(self, node: Any, name: str, scale: float) -> str:
        """The quantised and scaled back form of a tensor, shared by all who take it."""
        from onnx import helper

        key = (name, scale)
        if key not in self._activations:
            stem = (
                f"{name}.int8" if not any(n == name for n, _ in self._activations) else f"{name}.{scale:.9g}"
            )
            self._graph.constants[f"{stem}.scale"] = np.float32(scale)[None].reshape(())
            self._graph.constants[f"{stem}.zero"] = np.int8(0)[None].reshape(())
            scaling = [f"{stem}.scale", f"{stem}.zero"]
            quantise = helper.make_node("QuantizeLinear", [name, *scaling], [stem], stem)
            back = helper.make_node("DequantizeLinear", [stem, *scaling], [f"{stem}.back"], f"{stem}.back")
            self._graph.insert_before(node, [quantise, back])
            self._activations[key] = f"{stem}.back"
        return self._activations[key]


def _replace(node: Any, old: str, new: str) -> None:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new


def with_factor(
    levels: np.ndarray, scales: np.ndarray, factor: np.ndarray | None, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multiply a weight in levels by a factor for each output channel, exactly.

    Args:
        levels: int8, output channels on axis 0.
        scales: `[out channels]` or `[1]`.
        factor: `[out channels]`, of any sign; None: 1.
        axis: of the scales; 0, or -1 for one scale.

    Returns: levels (of another sign where the factor is negative) and scales, above 0.
    """
    if factor is None:
        return levels, np.maximum(scales, _SMALLEST)
    if axis > 0:
        raise ToolError("a convolution with scales along its input channels cannot take a batch-norm")
    signs = np.sign(factor).astype(np.int8).reshape([-1] + [1] * (levels.ndim - 1))
    return levels * signs, np.maximum(scales * np.abs(factor), _SMALLEST)


def with_room_for_bias(
    levels: np.ndarray, scales: np.ndarray, bias: np.ndarray, activation_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coarser weights for the (dead) channels whose bias would not fit int32 otherwise.

    Args:
        levels: int8, output channels on axis 0.
        scales: `[out channels]` or `[1]`.
        bias: `[out channels]`.
        activation_scale: value of one level of the input.
    """
    needed = np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * activation_scale)
    if len(scales) == 1:
        needed = needed.max(keepdims=True)
    wider = np.maximum(scales, needed)
    ratio = (scales / wider).reshape([-1] + [1] * (levels.ndim - 1))
    return np.rint(levels * ratio).astype(np.int8), wider
