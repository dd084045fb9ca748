"""What the integers of a TFLite file stand for: the network's own scales, as far as TFLite's operators allow.

TFLite stores scales as float32. Some operators fix the scale of their result (a sigmoid's is 1/256), some want that of
their input; everything else has the network's. Source: TFLite's quantisation specification
(https://ai.google.dev/edge/litert/models/quantization_spec).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.passes.int32_bias import INT32
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Operator

# Their result has the integers of their input.
MOVING = (
    "reshape2", "transpose2", "nearest_interp_v2", "split", "slice", "assign", "scale", "flatten_contiguous_range",
    "squeeze2", "unsqueeze2",
)  # fmt: skip
_FIXED = {
    ("sigmoid", 8): QuantParams(1 / 256, -128, narrow=False),
    ("sigmoid", 16): QuantParams(1 / 32768, 0, 16, narrow=False),
    ("tanh", 8): QuantParams(1 / 128, 0, narrow=False),
    ("tanh", 16): QuantParams(1 / 32768, 0, 16, narrow=False),
}
_INT64 = (-(2**47), 2**47 - 1)  # what the int16 kernels' multiplication of a sum allows
_SMALLEST = 1e-12  # scale of a channel that is all zero: TFLite wants scales above 0


def tensor_params(network: Int8Network, bits: int = 8) -> dict[str, QuantParams]:
    """The quantisation of each tensor that is held.

    Args:
        network: for one image; hard sigmoids folded where they can be, see `hard_sigmoid.py`.
        bits: of activations, 8 or 16; with 16 the largest integer stands for the same value.

    Raises: `ToolError` naming a tensor without a range.
    """
    params: dict[str, QuantParams] = {}
    for name in network.held:
        if network.tensors[name].params is None:
            raise ToolError(
                f"tensor {name} has no range, without which TFLite has no integers for it: quantise again"
            )
        producer = network.graph.producer(name)
        taken = None if producer is None else _taken_over(producer, params)
        fixed = None if producer is None else _FIXED.get((producer.op_type, bits))
        params[name] = fixed or taken or _own(network.tensors[name].params, bits)
    return params


def _own(params: QuantParams, bits: int) -> QuantParams:
    """A tensor's own quantisation; 16 bits have no zero point, and reach as far as 8 do."""
    if params.is_symmetric or bits != params.bits:
        return symmetric(float(max(-params.lowest, params.highest)), bits)
    return QuantParams(float(np.float32(params.scale)), params.zero_point, bits, narrow=False)


def symmetric(absmax: float, bits: int = 8) -> QuantParams:
    """Zero point 0, the largest integer for `absmax`; the scale is a float32.

    A tensor that was always 0 (`absmax` 0) gets the range 1: XNNPACK wants scales above 0.
    """
    scale = float(np.float32((absmax or 1.0) / (2 ** (bits - 1) - 1)))
    return QuantParams(scale, 0, bits, narrow=False)


def same(first: QuantParams, second: QuantParams) -> bool:
    """Whether integers of one may be read as those of the other."""
    return first.zero_point == second.zero_point and bool(
        np.isclose(first.scale, second.scale, rtol=1e-6, atol=0)
    )


def is_mean(op: Operator) -> bool:
    """Whether a pooling is the mean of a whole image, for which TFLite has an operator with any scale."""
    values = op.attributes
    whole = values.get("global_pooling") or (values.get("adaptive") and tuple(values["ksize"]) == (1, 1))
    return op.op_type == "pool2d" and values["pooling_type"] == "avg" and bool(whole)


def _taken_over(op: Operator, params: Mapping[str, QuantParams]) -> QuantParams | None:
    """The quantisation that a result has from what it is made of; None: its own."""
    sources = [params[name] for _, name in op.inputs if name in params]
    moving = op.op_type in MOVING or (op.op_type == "pool2d" and not is_mean(op))
    if not sources or not (moving or op.op_type == "concat"):
        return None
    return sources[0] if all(same(sources[0], other) for other in sources) else None


def weight_scales(operator: QuantizedOperator) -> np.ndarray:
    """The scales of a weight as the file has them, float64 of float32, `[channels]` or `[1]`."""
    return np.maximum(operator.scales, _SMALLEST).astype(np.float32).astype(np.float64)


def bias_integers(
    operator: QuantizedOperator, network: Int8Network, source: QuantParams, channels: int
) -> np.ndarray:
    """The bias in steps of the weight's scale times the input's, int64, `[channels]`.

    Args:
        operator: a convolution.
        network: that it is of.
        source: the input's quantisation in the file.
        channels: of the result.
    """
    if operator.bias_integers is None:
        return np.zeros(channels, np.int64)
    own = network.tensors[operator.activation].params
    if source.bits == own.bits and np.isclose(own.scale, source.scale, rtol=1e-6, atol=0):
        return operator.bias_integers
    value = operator.bias_integers * (operator.scales * own.scale)
    limits = INT32 if source.bits == 8 else _INT64
    return np.clip(np.rint(value / (weight_scales(operator) * source.scale)), *limits).astype(np.int64)
