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

from picoquant.int8.paddle_reader import QuantizedProgram, without_rounding

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_GONE = ""  # type of an operator that is to be dropped


def integer_form(
    program: Any, params: Mapping[str, np.ndarray], quantised: QuantizedProgram
) -> tuple[Any, dict[str, np.ndarray]] | None:
    """The program and its stored values with integer convolutions, biases inside.

    The `fake_quantize` of activations stay: opt tells by them that the model is INT8, and takes the scales from them.

    Args:
        program: `ProgramDesc` in Paddle Lite's form, as for `read_quantised`; left as it is.
        params: its stored values.
        quantised: the program taken apart.

    Returns: None where something else than convolutions is quantised, which is left to opt's own passes, and where
        there are batch-norms, which opt would fold into such convolutions.
    """
    if any(op.kind not in _CONVOLUTIONS for op in quantised.operators):
        return None
    if any(op.type == "batch_norm" for op in program.blocks[0].ops):
        return None
    program = without_rounding(program)
    values, block = dict(params), program.blocks[0]
    makers = {name: op for op in block.ops for slot in op.outputs for name in slot.arguments}
    convolutions = {}
    for quantity in quantised.operators:
        dequantise = makers[quantity.output]
        op = convolutions[quantity.output] = makers[_argument(dequantise.inputs, "X")]
        _slot(op.outputs, "Output").arguments[0] = quantity.output
        dequantise.type = _GONE
        values[quantity.weight] = quantity.levels
        op.attrs.add(name="enable_int8", type=_messages().BOOLEAN, b=True)
        scales = np.broadcast_to(quantity.weight_scales, len(quantity.levels))
        op.attrs.add(name="Filter0_scale", type=_messages().FLOATS, floats=scales.tolist())
    _move_biases(program, convolutions, values)
    kept = [_copy(op) for op in block.ops if op.type != _GONE]
    del block.ops[:]
    block.ops.extend(kept)
    _only_used_variables(program, values)
    stored = {variable.name for variable in block.vars if variable.persistable}
    return program, {name: value for name, value in values.items() if name in stored}


def _move_biases(program: Any, convolutions: Mapping[str, Any], values: dict[str, np.ndarray]) -> None:
    """Make each bias that is added behind one of these convolutions alone an input of it."""
    block = program.blocks[0]
    uses = Counter(name for op in block.ops for slot in op.inputs for name in slot.arguments)
    variables = {variable.name: variable for variable in block.vars}
    for op in block.ops:
        if op.type != "elementwise_add":
            continue
        result, bias = (_argument(op.inputs, slot) for slot in ("X", "Y"))
        convolution = convolutions.get(result)
        if convolution is None or bias not in values or uses[result] != 1 or uses[bias] != 1:
            continue
        axis = next((attribute.i for attribute in op.attrs if attribute.name == "axis"), -1)
        shape, channels = values[bias].shape, len(values[_argument(convolution.inputs, "Filter")])
        if not (shape == (channels,) and axis == 1) and shape != (1, channels, 1, 1):
            continue
        values[bias] = values[bias].reshape(channels)
        variables[bias].type.lod_tensor.tensor.dims[:] = [channels]
        convolution.inputs.add(parameter="Bias", arguments=[bias])
        _slot(convolution.outputs, "Output").arguments[0] = _argument(op.outputs, "Out")
        # The range is now that of the sum.
        kept = [_copy(attribute) for attribute in convolution.attrs if "threshold" not in attribute.name]
        kept += [_copy(attribute) for attribute in op.attrs if attribute.name == "out_threshold"]
        del convolution.attrs[:]
        convolution.attrs.extend(kept)
        op.type = _GONE


def _only_used_variables(program: Any, values: Mapping[str, np.ndarray]) -> None:
    """Drop what no operator names, and say which weights are int8."""
    block = program.blocks[0]
    named = {name for op in block.ops for slot in (*op.inputs, *op.outputs) for name in slot.arguments}
    kept = [_copy(variable) for variable in block.vars if variable.name in named]
    for variable in kept:
        if variable.name in values and values[variable.name].dtype == np.int8:
            variable.type.lod_tensor.tensor.data_type = _messages().VarType.INT8
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


def _copy(message: Any) -> Any:
    """A message that outlives the list it was in."""
    return type(message).FromString(message.SerializeToString())
