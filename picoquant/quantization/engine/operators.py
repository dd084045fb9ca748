"""What each operator of a Paddle program computes, by Paddle's public functions, with gradients.

Source of attributes and defaults: Paddle's operator definitions (`paddle/phi/api/yaml`, 2.6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F

from picoquant.paddle_program.graph import Operator

Attributes = Mapping[str, Any]
_RESULTS = ("Out", "Output", "Y")  # slots


class Inputs:
    """The tensors that an operator reads, by slot.

    Args:
        tensors: those of each slot, in order.
    """

    def __init__(self, tensors: Mapping[str, Sequence[Any]]) -> None:
        self._tensors = tensors

    def __call__(self, slot: str = "X") -> Any:
        """The only tensor of a slot."""
        return self._tensors[slot][0]

    def all(self, slot: str = "X") -> list[Any]:
        """All tensors of a slot; empty where there is none."""
        return list(self._tensors.get(slot, ()))

    def numbers(self, *slots: str) -> list[int] | None:
        """The whole numbers in the first of some slots that has tensors: one tensor of them, or one each."""
        for slot in slots:
            tensors = self.all(slot)
            if tensors:
                return [int(number) for tensor in tensors for number in np.atleast_1d(tensor.numpy()).ravel()]
        return None


def results_of(op: Operator) -> tuple[str, ...]:
    """Names of the tensors that `compute` returns: without what an operator notes for its gradient."""
    return tuple(name for slot, name in op.outputs if slot.rstrip("0123456789") in _RESULTS)


def compute(op: Operator, tensors: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The results of an operator, in the order of `results_of`.

    Args:
        op: of a type in `OPERATORS`.
        tensors: what it reads, by slot.
    """
    found = OPERATORS[op.op_type](Inputs(tensors), op.attributes)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def padding_of(a: Attributes) -> Any:
    """The padding of a convolution or pooling, as Paddle's functions take it."""
    algorithm = a.get("padding_algorithm", "EXPLICIT")
    return list(a["paddings"]) if algorithm == "EXPLICIT" else algorithm


def _convolution(x: Inputs, a: Attributes) -> Any:
    strides, dilations = list(a["strides"]), list(a["dilations"])
    return F.conv2d(x("Input"), x("Filter"), None, strides, padding_of(a), dilations, a["groups"])


def _transposed_convolution(x: Inputs, a: Attributes) -> Any:
    size, extra = list(a.get("output_size", ())), list(a.get("output_padding", ()))
    return F.conv2d_transpose(
        x("Input"),
        x("Filter"),
        stride=list(a["strides"]),
        padding=padding_of(a),
        output_padding=extra or 0,
        dilation=list(a["dilations"]),
        groups=a["groups"],
        output_size=size or None,
    )


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Attributes], Any]:
    """An operator of two tensors, whose second is laid along the first from `axis` on."""

    def apply(x: Inputs, a: Attributes) -> Any:
        first, second, axis = x("X"), x("Y"), a.get("axis", -1)
        missing = len(first.shape) - len(second.shape)
        if axis >= 0 and 0 < missing != axis:
            after = len(first.shape) - axis - len(second.shape)
            second = paddle.reshape(second, [*second.shape, *[1] * after])
        return function(first, second)

    return apply


def _pool(x: Inputs, a: Attributes) -> Any:
    value, kind, size = x("X"), a["pooling_type"], list(a["ksize"])
    if a.get("global_pooling"):
        return (F.adaptive_avg_pool2d if kind == "avg" else F.adaptive_max_pool2d)(value, 1)
    if a.get("adaptive"):  # Paddle has an operator of its own for adaptive maxima
        return F.adaptive_avg_pool2d(value, size)
    where = (value, size, list(a["strides"]), padding_of(a))
    if kind == "avg":
        return F.avg_pool2d(*where, ceil_mode=a["ceil_mode"], exclusive=a["exclusive"])
    return F.max_pool2d(*where, ceil_mode=a["ceil_mode"])


def _resize(mode: str) -> Callable[[Inputs, Attributes], Any]:
    def apply(x: Inputs, a: Attributes) -> Any:
        size = x.numbers("OutSize", "SizeTensor")
        scale = [float(number) for number in np.atleast_1d(a.get("scale", ()))]
        if size is None and a.get("out_h", -1) > 0 and a.get("out_w", -1) > 0:
            size = [a["out_h"], a["out_w"]]
        how = {"align_corners": a["align_corners"], "align_mode": a.get("align_mode", 1)}
        if size is not None:
            return F.interpolate(x("X"), size=size, mode=mode, **how)
        return F.interpolate(x("X"), scale_factor=scale if len(scale) > 1 else scale[0], mode=mode, **how)

    return apply


def _slice(x: Inputs, a: Attributes) -> Any:
    starts = x.numbers("StartsTensor", "StartsTensorList") or list(a["starts"])
    ends = x.numbers("EndsTensor", "EndsTensorList") or list(a["ends"])
    found = paddle.slice(x("Input"), list(a["axes"]), starts, ends)
    dropped = list(a.get("decrease_axis", ()))
    return paddle.squeeze(found, dropped) if dropped else found


def _split(x: Inputs, a: Attributes) -> Any:
    axis = (x.numbers("AxisTensor") or [a["axis"]])[0]
    parts = x.numbers("SectionsTensorList") or list(a.get("sections", ()))
    return paddle.split(x(), parts or a["num"], axis)


def _reshape(x: Inputs, a: Attributes) -> Any:
    return paddle.reshape(x(), x.numbers("Shape", "ShapeTensor") or list(a["shape"]))


def _scale(x: Inputs, a: Attributes) -> Any:
    factor = x("ScaleTensor") if x.all("ScaleTensor") else a["scale"]
    return paddle.scale(x(), factor, a["bias"], a.get("bias_after_scale", True))


def _batch_norm(x: Inputs, a: Attributes) -> Any:
    """By the running statistics; `FakeQuantNetwork` has its own for those that follow batches."""
    return F.batch_norm(
        x(), x("Mean"), x("Variance"), x("Scale"), x("Bias"), training=False, epsilon=a["epsilon"]
    )


def _reduce(function: Callable[..., Any]) -> Callable[[Inputs, Attributes], Any]:
    def apply(x: Inputs, a: Attributes) -> Any:
        axes = None if a.get("reduce_all") else list(a["dim"])
        return function(x(), axis=axes, keepdim=a.get("keep_dim", False))

    return apply


def _matrix_product(x: Inputs, a: Attributes) -> Any:
    return paddle.matmul(x("X"), x("Y"), a.get("trans_x", False), a.get("trans_y", False))


def _flat_product(x: Inputs, a: Attributes) -> Any:
    first, second = x("X"), x("Y")
    rows, columns = first.shape[: a["x_num_col_dims"]], second.shape[a["y_num_col_dims"] :]
    left = paddle.reshape(first, [int(np.prod(rows)), -1])
    right = paddle.reshape(second, [left.shape[1], -1])
    return paddle.reshape(paddle.matmul(left, right), [*rows, *columns])


def _channel_shuffle(x: Inputs, a: Attributes) -> Any:
    return F.channel_shuffle(x(), a.get("groups", a.get("group", 1)))


def _stored_numbers(x: Inputs, a: Attributes) -> Any:
    if a.get("values"):  # Paddle 3
        return paddle.to_tensor(np.array(a["values"], np.dtype(_DTYPES[a["dtype"]])).reshape(a["shape"]))
    for field, dtype in (("fp32_values", "float32"), ("int32_values", "int32"), ("int64_values", "int64")):
        if a.get(field):
            return paddle.to_tensor(np.array(a[field], dtype).reshape(a["shape"]))
    return paddle.to_tensor(np.array(a["bool_values"], bool).reshape(a["shape"]))


def _of_one(function: Callable[[Any], Any]) -> Callable[[Inputs, Attributes], Any]:
    return lambda x, a: function(x())


OPERATORS: Mapping[str, Callable[[Inputs, Attributes], Any]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv2d_transpose": _transposed_convolution,
    "batch_norm": _batch_norm,
    "relu": _of_one(F.relu),
    "relu6": _of_one(F.relu6),
    "leaky_relu": lambda x, a: F.leaky_relu(x(), a["alpha"]),
    "elu": lambda x, a: F.elu(x(), a["alpha"]),
    "gelu": lambda x, a: F.gelu(x(), a.get("approximate", False)),
    "mish": _of_one(F.mish),
    "swish": _of_one(F.silu),
    "silu": _of_one(F.silu),
    "hard_swish": _of_one(F.hardswish),  # Paddle 2.6 computes this one whatever the attributes say
    "hard_sigmoid": lambda x, a: F.hardsigmoid(x(), a["slope"], a["offset"]),
    "sigmoid": _of_one(F.sigmoid),
    "tanh": _of_one(paddle.tanh),
    "exp": _of_one(paddle.exp),
    "log": _of_one(paddle.log),
    "sqrt": _of_one(paddle.sqrt),
    "square": _of_one(paddle.square),
    "abs": _of_one(paddle.abs),
    "softmax": lambda x, a: F.softmax(x(), a["axis"]),
    "clip": lambda x, a: paddle.clip(x(), a["min"], a["max"]),
    "elementwise_add": _elementwise(paddle.add),
    "elementwise_sub": _elementwise(paddle.subtract),
    "elementwise_mul": _elementwise(paddle.multiply),
    "elementwise_div": _elementwise(paddle.divide),
    "elementwise_max": _elementwise(paddle.maximum),
    "elementwise_min": _elementwise(paddle.minimum),
    "elementwise_pow": _elementwise(paddle.pow),
    "pow": lambda x, a: paddle.pow(x(), a["factor"]),
    "sum": lambda x, a: paddle.add_n(x.all()),
    "mul": _flat_product,
    "matmul": lambda x, a: (
        a.get("alpha", 1.0)
        * paddle.matmul(x("X"), x("Y"), a.get("transpose_X", False), a.get("transpose_Y", False))
    ),
    "matmul_v2": _matrix_product,
    "pool2d": _pool,
    "nearest_interp": _resize("nearest"),
    "nearest_interp_v2": _resize("nearest"),
    "bilinear_interp": _resize("bilinear"),
    "bilinear_interp_v2": _resize("bilinear"),
    "pixel_shuffle": lambda x, a: F.pixel_shuffle(x(), a["upscale_factor"]),
    "channel_shuffle": _channel_shuffle,
    "shuffle_channel": _channel_shuffle,
    "concat": lambda x, a: paddle.concat(x.all(), (x.numbers("AxisTensor") or [a["axis"]])[0]),
    "split": _split,
    "slice": _slice,
    "strided_slice": lambda x, a: paddle.strided_slice(
        x("Input"), list(a["axes"]), list(a["starts"]), list(a["ends"]), list(a["strides"])
    ),
    "stack": lambda x, a: paddle.stack(x.all(), a["axis"]),
    "unstack": lambda x, a: paddle.unstack(x(), a["axis"], a["num"]),
    "gather": lambda x, a: paddle.gather(x("X"), x("Index"), a.get("axis", 0)),
    "tile": lambda x, a: paddle.tile(x(), x.numbers("RepeatTimes") or list(a["repeat_times"])),
    "expand_v2": lambda x, a: paddle.expand(x(), x.numbers("Shape") or list(a["shape"])),
    "reshape": _reshape,
    "reshape2": _reshape,
    "transpose": lambda x, a: paddle.transpose(x(), list(a["axis"])),
    "transpose2": lambda x, a: paddle.transpose(x(), list(a["axis"])),
    "flatten_contiguous_range": lambda x, a: paddle.flatten(x(), a["start_axis"], a["stop_axis"]),
    "squeeze2": lambda x, a: paddle.squeeze(x(), list(a["axes"]) or None),
    "unsqueeze2": lambda x, a: paddle.unsqueeze(x(), list(a["axes"])),
    "pad3d": lambda x, a: F.pad(x(), list(a["paddings"]), a["mode"], a["value"], a["data_format"]),
    "reduce_mean": _reduce(paddle.mean),
    "reduce_sum": _reduce(paddle.sum),
    "reduce_max": _reduce(paddle.max),
    "reduce_min": _reduce(paddle.min),
    "scale": _scale,
    "cast": lambda x, a: paddle.cast(x(), _DTYPES[a["out_dtype"]]),
    "shape": lambda x, a: paddle.to_tensor(np.array(x("Input").shape, np.int32)),
    "assign": _of_one(paddle.assign),
    "assign_value": _stored_numbers,
    "fill_constant": lambda x, a: paddle.full(list(a["shape"]), a["value"], _DTYPES[a["dtype"]]),
    "dropout": lambda x, a: (
        x() * (1 - a["dropout_prob"])
        if a.get("dropout_implementation", "downgrade_in_infer") == "downgrade_in_infer"
        else x()
    ),
}
# `VarType.Type` of framework.proto.
_DTYPES = {0: "bool", 2: "int32", 3: "int64", 5: "float32", 6: "float64"}
