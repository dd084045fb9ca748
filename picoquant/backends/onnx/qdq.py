"""An INT8 ONNX with QuantizeLinear and DequantizeLinear, of an INT8 Paddle program.

The network comes from paddle2onnx; what is INT8 and its scales come from the Paddle program. Weights are
stored as int8 with a scale for each channel, biases as int32, and batch-norm is folded: its factor goes into
the weights' scales, so the integers stay those that the training found. Activations are uint8, see
`onnx_levels`; relu, relu6 and hard sigmoids are left to their levels, see `onnx_activations`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.errors import ToolError
from picoquant.int8.int32_bias import with_exact_bias, with_room_for_bias
from picoquant.int8.paddle_reader import QuantizedOperator, QuantizedProgram
from picoquant.paddle_program.edit import write_program

_PASSED_THROUGH = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")
_SMALLEST = 1e-12  # scale of a channel that is all zero; ONNX wants scales above 0


def make_onnx(quantised: QuantizedProgram, params: Path) -> Any:
    """Make the ONNX model.

    Args:
        quantised: the program, taken apart.
        params: its `.pdiparams`.

    Returns: a checked `onnx.ModelProto`; its tensors have Paddle's names.

    Raises: `ToolError` when paddle2onnx refuses the network or has left out a quantised operator.
    """
    from picoquant.backends.onnx.activations import drop_clips, hard_sigmoids, split_hard_swish
    from picoquant.backends.onnx.graph import Graph
    from picoquant.backends.onnx.ort_kernels import cells_last, pad_input_channels, widen_thin_convolutions
    from picoquant.backends.onnx.ort_layout import double_by_copying, stem_in_columns
    from picoquant.backends.onnx.quant_params import levels_of
    from picoquant.backends.onnx.simplify import fold_batch_norm, share_constants, simplify

    with tempfile.TemporaryDirectory(prefix="picoquant-network-") as scratch:
        network = Path(scratch) / "model.pdmodel"
        write_program(quantised.network, network)
        graph = Graph(paddle_to_onnx(network, params))
    simplify(graph, {variable.name for variable in quantised.network.blocks[0].vars})
    cells_last(graph)
    factors = fold_batch_norm(graph)
    split_hard_swish(graph)
    weights = {operator.weight: operator for operator in quantised.operators}
    measured, learnt = quantised.ranges, quantised.learnt_ranges
    units = hard_sigmoids(graph, factors, weights, {**measured, **learnt})
    limits = drop_clips(graph, {**measured, **learnt})
    scale_float_weights(graph, factors, weights)
    levels = levels_of(graph, measured, learnt, limits, units, weights)
    inserter = _Inserter(graph, factors, levels)
    for weight in weights:
        inserter.weights(weight, [item for item in quantised.operators if item.weight == weight])
    inserter.activations()
    widen_thin_convolutions(graph, graph.shapes)
    stem_in_columns(graph)
    pad_input_channels(graph)
    double_by_copying(graph)
    share_constants(graph)
    return checked(graph)


def checked(graph: Any) -> Any:
    """A graph as a model that onnx's checker has passed.

    Raises: `ToolError` with the checker's word.
    """
    import onnx

    graph.model.producer_name, graph.model.producer_version = "picoquant", ""
    model = graph.finish()
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ToolError(f"the ONNX model is not valid: {str(error).splitlines()[0]}") from error
    return model


def write_onnx(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto`, the same bytes for the same content."""
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def scale_float_weights(graph: Any, factors: Mapping[str, np.ndarray], quantised: Mapping[str, Any]) -> None:
    """Put batch-norm's factors into the weights of convolutions that stay float."""
    for node in graph.nodes:
        if node.op_type != "Conv" or node.input[1] in quantised or node.name not in factors:
            continue
        weight = graph.constants[node.input[1]]
        factor = factors[node.name].reshape([-1] + [1] * (weight.ndim - 1))
        name = f"{node.name}.weight"
        graph.constants[name] = (weight * factor).astype(np.float32)
        node.input[1] = name


class _Inserter:
    """Puts quantising nodes round the operators of a graph.

    Args:
        graph: the network.
        factors: of the folded batch-norms, see `fold_batch_norm`.
        levels: of the tensors that are quantised.
    """

    def __init__(self, graph: Any, factors: Mapping[str, np.ndarray], levels: Mapping[str, Any]) -> None:
        self._graph, self._factors, self._levels = graph, factors, levels

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
        levels, scales = operator.levels, operator.weight_scales.astype(np.float64)
        computed = next(name for name in node.input if name not in self._graph.constants)
        bias = None
        if node.op_type == "Conv":
            bias = self._graph.constants.get(node.input[2]) if len(node.input) > 2 else None
            levels, scales = with_factor(levels, scales, self._factors.get(node.name), operator.axis)
        if bias is not None and computed in self._levels:
            step = float(np.float32(self._levels[computed].read_scale))
            wanted = with_room_for_bias(scales, bias, step)
            if node.output[0] in self._levels:
                wanted = with_exact_bias(wanted, bias, step, self._levels[node.output[0]].scale)
            levels, scales = in_other_scales(levels, scales, wanted), wanted
            scales = scales.astype(np.float32).astype(np.float64)
            together = np.broadcast_to(scales * step, bias.shape)
            rounded = np.rint(bias.astype(np.float64) / together).astype(np.int32)
            node.input[2] = self._dequantised(node, f"{node.name}.bias", rounded, together, 0)
        axis = operator.axis if len(scales) > 1 else -1
        name = self._dequantised(user, f"{node.name}.weight", levels, scales, axis)
        _replace(user, operator.weight, name)

    def activations(self) -> None:
        """Quantise and scale back every tensor that has levels, and constants beside such tensors."""
        for node in list(self._graph.nodes):
            if node.op_type in ("Add", "Mul", "Concat") and node.output[0] in self._levels:
                for name in [name for name in node.input if name in self._graph.constants]:
                    self._constant(node, name)
        for name, levels in self._levels.items():
            self._activation(name, levels)

    def _activation(self, name: str, levels: Any) -> None:
        from onnx import helper

        graph, maker = self._graph, self._graph.producer(name)
        users = graph.users(name)
        source, back = name, f"{name}.back"
        if name in graph.outputs and maker is not None:
            source, back = f"{name}.float", name
            maker.output[list(maker.output).index(name)] = source
        if not users and back != name:
            return
        scaling = self._scaling(name, levels.scale, levels.zero_point)
        reading = self._scaling(f"{name}.read", levels.read_scale, levels.zero_point)
        stored, new = f"{name}.uint8", []
        rounded = f"{name}.rounded" if levels.clipped else stored
        new.append(helper.make_node("QuantizeLinear", [source, *scaling], [rounded], rounded))
        if levels.clipped:
            ends = [f"{name}.lowest", f"{name}.highest"]
            graph.constants.update(zip(ends, map(np.uint8, levels.ends)))
            new.append(helper.make_node("Clip", [rounded, *ends], [stored], stored))
        new.append(helper.make_node("DequantizeLinear", [stored, *reading], [back], back))
        for user in users:
            _replace(user, name, back)
        place = 0 if maker is None else 1 + next(i for i, node in enumerate(graph.nodes) if node is maker)
        graph.nodes[place:place] = new

    def _constant(self, node: Any, name: str) -> None:
        """Store a constant in levels of its own."""
        from onnx import helper

        from picoquant.backends.onnx.quant_params import Levels

        value = self._graph.constants[name].astype(np.float64)
        levels = Levels.up_to(float(np.abs(value).max()) or 1.0, signed=bool((value < 0).any()))
        numbers = np.clip(np.rint(value / np.float32(levels.scale)) + levels.zero_point, 0, 255)
        stem = f"{name}.constant"
        self._graph.constants[f"{stem}.uint8"] = numbers.astype(np.uint8)
        inputs = [f"{stem}.uint8", *self._scaling(stem, levels.scale, levels.zero_point)]
        self._graph.insert_before(
            node, [helper.make_node("DequantizeLinear", inputs, [f"{node.name}.{stem}"])]
        )
        _replace(node, name, f"{node.name}.{stem}")

    def _scaling(self, name: str, scale: float, zero_point: int) -> list[str]:
        self._graph.constants[f"{name}.scale"] = np.array(scale, np.float32)
        self._graph.constants[f"{name}.zero"] = np.array(zero_point, np.uint8)
        return [f"{name}.scale", f"{name}.zero"]

    def _dequantised(self, node: Any, name: str, levels: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """Store levels, and insert what scales them back before `node`; returns that tensor's name."""
        from onnx import helper

        per_channel = axis >= 0
        values = scales.astype(np.float32) if per_channel else np.float32(scales[0])
        self._graph.constants[f"{name}.levels"] = levels
        self._graph.constants[f"{name}.scale"] = np.asarray(values)
        axes = {"axis": axis} if per_channel else {}
        inputs = [f"{name}.levels", f"{name}.scale"]  # without a zero point it is 0
        self._graph.insert_before(node, [helper.make_node("DequantizeLinear", inputs, [name], name, **axes)])
        return name


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


def in_other_scales(levels: np.ndarray, scales: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The levels, int8, that stand for the same weight where each is worth `wanted` in place of `scales`.

    Args:
        levels: int8, output channels on axis 0.
        scales, wanted: `[channels]` or `[1]`; what does not fit is limited.
    """
    ratio = (scales / wanted).reshape([-1] + [1] * (levels.ndim - 1))
    return np.clip(np.rint(levels * ratio), -127, 127).astype(np.int8)
