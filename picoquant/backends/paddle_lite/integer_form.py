"""An INT8 program as opt makes it of `fake_quantize -> convolution -> fake_dequantize`, and with biases inside.

opt turns these three into one convolution with `enable_int8`, int8 weights and their scales, and leaves the bias an
operator of its own, with a tensor and scales of its own: 100 kB of the `.nb` of PicoDet-S-NPU. On the board
NNAdapter puts that bias into the convolution (`fuse_conv2d_add_into_conv2d.cc`): int32, of the scale input x weight,
the result has the sum's scale. Its converter does the same with a convolution's own input `Bias` (`conv2d.cc`), so
the network is the same. But opt knows no quantised convolution with one, so the first step must be done, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from picoquant.backends.paddle_lite.output_maps import output_maps
from picoquant.int8.network import Int8Network
from picoquant.int8.paddle.form import OUT_THRESHOLD, copied, name_at, without_rounding
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import FETCH, read_graph, read_operator
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.utils.paddle_version.differences import tensor_of

_SIX = 6.0  # where a ReLU6 ends that does not say it
_GONE = ""  # type of an operator that is to be dropped


def integer_form(
    program: Any, values: Mapping[str, np.ndarray], network: Int8Network
) -> tuple[Any, dict[str, np.ndarray]] | None:
    """The program and its stored values with integer convolutions, biases inside; it ends in the maps of its outputs.

    The `fake_quantize` of activations stay: opt tells by them that the model is INT8, and takes the scales from them.

    Args:
        program: `ProgramDesc` in Paddle Lite's form, see `paddle_form.py`; left as it is.
        values: its stored tensors.
        network: what it is a form of.

    Returns: None where something else than convolutions is quantised, which is left to opt's own passes, and where
        there are batch-norms, which opt would fold into such convolutions.
    """
    if any(op.op_type not in CONVOLUTIONS for op in network.operators):
        return None
    if any(op.type == "batch_norm" for op in program.blocks[0].ops):
        return None
    program = without_rounding(program)
    stored, block = dict(values), program.blocks[0]
    makers = {name: op for op in block.ops for slot in op.outputs for name in slot.arguments}
    convolutions = {}
    for operator in network.operators:
        dequantise = makers[operator.output]
        op = convolutions[operator.output] = makers[name_at(dequantise.inputs, "X")]
        _slot(op.outputs, "Output").arguments[0] = operator.output
        dequantise.type = _GONE
        stored[operator.weight] = operator.integers
        op.attrs.add(name="enable_int8", type=_messages().BOOLEAN, b=True)
        scales = np.broadcast_to(operator.scales.astype(np.float32), len(operator.integers))
        op.attrs.add(name="Filter0_scale", type=_messages().FLOATS, floats=scales.tolist())
    _move_biases(program, convolutions, network, stored)
    _leave_limits_to_saturation(block, network)
    _end_in_maps(program, network)
    kept = [copied(op) for op in block.ops if op.type != _GONE]
    del block.ops[:]
    block.ops.extend(kept)
    _only_used_variables(program, stored)
    kept_names = {variable.name for variable in block.vars if variable.persistable}
    return program, {name: value for name, value in stored.items() if name in kept_names}


def _move_biases(
    program: Any, convolutions: Mapping[str, Any], network: Int8Network, values: dict[str, np.ndarray]
) -> None:
    """Make each bias that is fused into one of these convolutions an input of it."""
    block = program.blocks[0]
    uses = Counter(name for op in block.ops for slot in op.inputs for name in slot.arguments)
    variables = {variable.name: variable for variable in block.vars}
    adds = {_argument(op.outputs, "Out"): op for op in block.ops if op.type == "elementwise_add"}
    for output, convolution in convolutions.items():
        layer = network.layers[output]
        add = adds.get(layer.fused[0].name) if layer.bias is not None else None
        bias = "" if add is None else _argument(add.inputs, "Y")
        if bias not in values or uses[bias] != 1:
            continue  # one that is shared, or reshaped before, stays an operator of its own
        values[bias] = network.values[layer.bias]
        tensor_of(variables[bias].type).dims[:] = values[bias].shape
        convolution.inputs.add(parameter="Bias", arguments=[bias])
        _slot(convolution.outputs, "Output").arguments[0] = _argument(add.outputs, "Out")
        # The range is now that of the sum.
        kept = [copied(attribute) for attribute in convolution.attrs if "threshold" not in attribute.name]
        kept += [copied(attribute) for attribute in add.attrs if attribute.name == OUT_THRESHOLD]
        del convolution.attrs[:]
        convolution.attrs.extend(kept)
        add.type = _GONE


def saturates_at(params: QuantParams, limit: float) -> bool:
    """Whether the largest quantised value stands for no more than a limit: the range itself then ends there."""
    return bool(np.rint(limit / params.scale) >= params.high)


def _leave_limits_to_saturation(block: Any, network: Int8Network) -> None:
    """Make a ReLU of each ReLU6 whose range ends at 6 or below: the integers are the same.

    Paddle Lite's driver for VeriSilicon's NPUs hands both over as operators of their own. On the NPU a ReLU is a
    part of the convolution before it, a ReLU6 another pass over the tensor, and a table that does not reach 6.
    """
    for op in block.ops:
        if op.type != "relu6":
            continue
        limit = next((attribute.f for attribute in op.attrs if attribute.name == "threshold"), _SIX)
        results = [name for slot in op.outputs for name in slot.arguments]
        tensor = network.tensors.get(results[0]) if results else None
        if tensor is None or tensor.params is None or not saturates_at(tensor.params, limit):
            continue
        op.type = "relu"
        kept = [copied(attribute) for attribute in op.attrs if attribute.name != "threshold"]
        del op.attrs[:]
        op.attrs.extend(kept)


def _end_in_maps(program: Any, network: Int8Network) -> None:
    """Fetch the maps that outputs are made of, see `output_maps`; the program for the board brings them into rows."""

    def params_of(name: str) -> QuantParams | None:
        tensor = network.tensors.get(name)
        return tensor.params if tensor is not None else None

    maps = output_maps(read_graph(program), params_of)
    left_out = {op.name for one in maps.values() for op in one.left_out}
    for op in program.blocks[0].ops:
        if op.type == FETCH:
            slot = _slot(op.inputs, "X")
            slot.arguments[:] = [maps[name].name if name in maps else name for name in slot.arguments]
        elif read_operator(op).name in left_out:
            op.type = _GONE


def _only_used_variables(program: Any, values: Mapping[str, np.ndarray]) -> None:
    """Drop what no operator names, and say which weights are int8."""
    block = program.blocks[0]
    named = {name for op in block.ops for slot in (*op.inputs, *op.outputs) for name in slot.arguments}
    kept = [copied(variable) for variable in block.vars if variable.name in named]
    for variable in kept:
        if variable.name in values and values[variable.name].dtype == np.int8:
            tensor_of(variable.type).data_type = _messages().VarType.INT8
    del block.vars[:]
    block.vars.extend(kept)


def _messages() -> Any:
    """Paddle's protobuf messages; paddle is imported where it is used."""
    from paddle.base.proto import framework_pb2 as messages

    return messages


def _slot(slots: Any, parameter: str) -> Any:
    return next(slot for slot in slots if slot.parameter == parameter)


def _argument(slots: Any, parameter: str) -> str:
    return _slot(slots, parameter).arguments[0]
