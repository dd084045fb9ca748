"""What each operator of a Paddle program is in ONNX.

Source of the operators: onnx/docs/Operators.md; of Paddle's: `paddle/phi/api/yaml` (2.6), as `quantization/engine`
computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import helper

from picoquant.backends.onnx.translation.moving import MOVING
from picoquant.backends.onnx.translation.suppression import multiclass_nms
from picoquant.backends.onnx.translation.windows import WINDOWS
from picoquant.backends.onnx.translation.writer import Writer, inputs_of
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator

Rule = Callable[[Writer, Operator], None]
_DTYPES = {0: "bool", 2: "int32", 3: "int64", 5: "float32", 6: "float64"}  # `VarType.Type` of framework.proto
_PLAIN = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
    "floor": "Floor", "ceil": "Ceil", "assign": "Identity",
}  # fmt: skip
_PAIRS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow",
}  # fmt: skip
_REDUCED = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}


def _plain(kind: str) -> Rule:
    return lambda writer, op: _done(writer.add(kind, inputs_of(op, "X"), op.results[0]))


def _done(_: str) -> None:
    """A rule gives nothing."""


def _batch_norm(writer: Writer, op: Operator) -> None:
    names = [inputs_of(op, slot)[0] for slot in ("X", "Scale", "Bias", "Mean", "Variance")]
    writer.add("BatchNormalization", names, op.results[0], epsilon=op.attributes["epsilon"])


def _gated(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    writer.add("Mul", [x, writer.add("Sigmoid", [x])], op.results[0])


def _hard_swish(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    moved = writer.add("Add", [x, writer.constant(3.0)])
    gate = writer.add("Clip", [moved, writer.constant(0.0), writer.constant(6.0)])
    writer.add("Div", [writer.add("Mul", [x, gate]), writer.constant(6.0)], op.results[0])


def _hard_sigmoid(writer: Writer, op: Operator) -> None:
    attributes = {"alpha": op.attributes["slope"], "beta": op.attributes["offset"]}
    writer.add("HardSigmoid", inputs_of(op, "X"), op.results[0], **attributes)


def _sloped(kind: str) -> Rule:
    return lambda writer, op: _done(
        writer.add(kind, inputs_of(op, "X"), op.results[0], alpha=op.attributes["alpha"])
    )


def _relu6(writer: Writer, op: Operator) -> None:
    writer.add("Clip", [*inputs_of(op, "X"), writer.constant(0.0), writer.constant(6.0)], op.results[0])


def _clip(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    ends = []
    for slot, name in (("Min", "min"), ("Max", "max")):
        given = inputs_of(op, slot)
        if given:
            ends.append(writer.add("Reshape", [given[0], writer.constant([], "int64")]))
        else:
            ends.append(writer.constant(op.attributes[name], writer.dtype(x)))
    writer.add("Clip", [x, *ends], op.results[0])


def _mish(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    writer.add("Mul", [x, writer.add("Tanh", [writer.add("Softplus", [x])])], op.results[0])


def _gelu(writer: Writer, op: Operator) -> None:
    if op.attributes.get("approximate"):
        raise ToolError(f"gelu ({op.name}) by tanh is not converted without paddle2onnx")
    (x,) = inputs_of(op, "X")
    part = writer.add("Erf", [writer.add("Mul", [x, writer.constant(0.5**0.5)])])
    whole = writer.add("Mul", [x, writer.add("Add", [part, writer.constant(1.0)])])
    writer.add("Mul", [whole, writer.constant(0.5)], op.results[0])


def _softmax(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    axis, rank = op.attributes["axis"], writer.rank(x)
    if writer.opset < 13 and axis not in (-1, rank - 1):
        raise ToolError(f"softmax ({op.name}) over axis {axis} has no form in opset {writer.opset}")
    writer.add("Softmax", [x], op.results[0], axis=axis)


def _pair(kind: str) -> Rule:
    def apply(writer: Writer, op: Operator) -> None:
        (first,), (second,) = inputs_of(op, "X"), inputs_of(op, "Y")
        axis = op.attributes.get("axis", -1)
        missing = writer.rank(first) - writer.rank(second)
        if axis >= 0 and 0 < missing != axis:  # laid along the first from that axis on
            size = writer.rank(second)
            behind = range(size, size + writer.rank(first) - axis - size)
            if second in writer.constants:
                array = writer.constants[second]
                second = writer.constant(array.reshape(*array.shape, *[1] * len(behind)), str(array.dtype))
            else:
                second = writer.squeeze(second, list(behind), back=True)
        writer.add(kind, [first, second], op.results[0])

    return apply


def _power(writer: Writer, op: Operator) -> None:
    writer.add("Pow", [*inputs_of(op, "X"), writer.constant(op.attributes["factor"])], op.results[0])


def _square(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    writer.add("Mul", [x, x], op.results[0])


def _matrix_product(first: str, second: str) -> Rule:
    def apply(writer: Writer, op: Operator) -> None:
        names = []
        for slot, key in (("X", first), ("Y", second)):
            (name,) = inputs_of(op, slot)
            if op.attributes.get(key, False):
                order = list(range(writer.rank(name)))
                name = writer.add("Transpose", [name], perm=[*order[:-2], order[-1], order[-2]])
            names.append(name)
        factor = op.attributes.get("alpha", 1.0)
        if factor == 1.0:
            writer.add("MatMul", names, op.results[0])
        else:
            writer.add("Mul", [writer.add("MatMul", names), writer.constant(factor)], op.results[0])

    return apply


def _reduce(kind: str) -> Rule:
    def apply(writer: Writer, op: Operator) -> None:
        (x,) = inputs_of(op, "X")
        axes = list(range(writer.rank(x))) if op.attributes.get("reduce_all") else list(op.attributes["dim"])
        keep = int(op.attributes.get("keep_dim", False))
        if (kind == "ReduceSum" and writer.opset >= 13) or writer.opset >= 18:
            writer.add(kind, [x, writer.whole(*axes)], op.results[0], keepdims=keep)
        else:
            writer.add(kind, [x], op.results[0], axes=axes, keepdims=keep)

    return apply


def _scale(writer: Writer, op: Operator) -> None:
    (x,), given = inputs_of(op, "X"), inputs_of(op, "ScaleTensor")
    factor, shift = op.attributes.get("scale", 1.0), op.attributes.get("bias", 0.0)
    kind = writer.dtype(x)
    steps = []
    if given or factor != 1.0:
        steps.append(("Mul", given[0] if given else writer.constant(factor, kind)))
    if shift != 0.0:
        steps.append(("Add", writer.constant(shift, kind)))
    if not op.attributes.get("bias_after_scale", True):
        steps.reverse()
    for place, (step, other) in enumerate(steps or [("Identity", "")]):
        last = place >= len(steps) - 1
        x = writer.add(step, [x, other] if other else [x], op.results[0] if last else None)


def _cast(writer: Writer, op: Operator) -> None:
    kind = np.dtype(_DTYPES[op.attributes["out_dtype"]])
    writer.add("Cast", inputs_of(op, "X"), op.results[0], to=helper.np_dtype_to_tensor_dtype(kind))


def _shape(writer: Writer, op: Operator) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype("int32"))
    writer.add("Cast", [writer.add("Shape", inputs_of(op, "Input"))], op.results[0], to=kind)


def _stored(writer: Writer, op: Operator) -> None:
    a, kind = op.attributes, _DTYPES[op.attributes["dtype"]]
    fields = ("values", "fp32_values", "int32_values", "int64_values", "bool_values")
    values: Any = next((a[field] for field in fields if a.get(field)), ())
    writer.constants[op.results[0]] = np.array(values, np.dtype(kind)).reshape(a["shape"])


def _filled(writer: Writer, op: Operator) -> None:
    a = op.attributes
    if any(slot.startswith(("ShapeTensor", "ValueTensor")) for slot, _ in op.inputs):
        raise ToolError(
            f"fill_constant ({op.name}) with a computed shape is not converted without paddle2onnx"
        )
    value = float(a["str_value"]) if a.get("str_value") else a["value"]
    writer.constants[op.results[0]] = np.full(a["shape"], value, np.dtype(_DTYPES[a["dtype"]]))


def _dropout(writer: Writer, op: Operator) -> None:
    kept = 1.0 - op.attributes["dropout_prob"]
    if (
        op.attributes.get("dropout_implementation", "downgrade_in_infer") != "downgrade_in_infer"
        or kept == 1.0
    ):
        writer.add("Identity", inputs_of(op, "X"), outputs_first(op))
    else:
        writer.add("Mul", [*inputs_of(op, "X"), writer.constant(kept)], outputs_first(op))


def outputs_first(op: Operator) -> str:
    """The result in slot `Out`."""
    return dict(op.outputs)["Out0"]


RULES: Mapping[str, Rule] = {
    **{name: _plain(kind) for name, kind in _PLAIN.items()},
    **{f"elementwise_{name}": _pair(kind) for name, kind in _PAIRS.items()},
    **{f"reduce_{name}": _reduce(kind) for name, kind in _REDUCED.items()},
    **WINDOWS,
    **MOVING,
    "batch_norm": _batch_norm,
    "swish": _gated,
    "silu": _gated,
    "hard_swish": _hard_swish,
    "hard_sigmoid": _hard_sigmoid,
    "leaky_relu": _sloped("LeakyRelu"),
    "elu": _sloped("Elu"),
    "relu6": _relu6,
    "clip": _clip,
    "mish": _mish,
    "gelu": _gelu,
    "softmax": _softmax,
    "pow": _power,
    "square": _square,
    "sum": _plain("Sum"),
    "matmul": _matrix_product("transpose_X", "transpose_Y"),
    "matmul_v2": _matrix_product("trans_x", "trans_y"),
    "scale": _scale,
    "cast": _cast,
    "shape": _shape,
    "assign_value": _stored,
    "fill_constant": _filled,
    "dropout": _dropout,
    "multiclass_nms3": multiclass_nms,
}
