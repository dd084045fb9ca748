"""How each PIR operator is written as an operator of a `ProgramDesc`: its slots and attributes.

Source of the names: Paddle's `paddle/phi/ops/yaml/ops.yaml` (PIR) and `op_compat.yaml` (the older names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from picoquant.paddle_program.message import TypedList


@dataclass(frozen=True)
class Slot:
    """An operand that is a tensor.

    Attributes:
        name: of the slot; empty for one that must be left out.
        many: whether it is a list of tensors.
        optional: whether it may be left out.
    """

    name: str
    many: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Constant:
    """An operand that is a number or a list in the program, and an attribute of the older operator.

    Attributes:
        attribute: its name.
        kind: as in `Rule.attributes`.
        tensor: slot for one that is computed; empty where that is not read.
    """

    attribute: str
    kind: str
    tensor: str = ""


Operand = Union[Slot, Constant]


@dataclass(frozen=True)
class Rule:
    """One operator.

    Attributes:
        type: of the older operator.
        operands: what its operands are, in order; the last ones may be missing in the program if they are optional.
        outputs: slot of each result; empty for one that the older operator lacks and nothing may read.
        attributes: kind by PIR's name: `bool`, `int`, `float`, `str`, `dtype`, or a list: `ints`, `longs`, `floats`; a
            trailing `+` says that numbers must be above 0.
        renamed: older names of attributes, by PIR's.
        fixed: attributes that the older operator has besides.
        required: values that attributes must have.
        dropped: attributes that the older operator lacks, with the value that they must have.
        shape_output: slot of an output that the older operator has besides, without meaning.
        version: of the older operator, as a program of Paddle 2.6 says it.
    """

    type: str
    operands: tuple[Operand, ...]
    outputs: tuple[str, ...] = ("Out",)
    attributes: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, Any] = field(default_factory=dict)
    shape_output: str = ""
    version: int = 0


X, Y = Slot("X"), Slot("Y")
_CONV = {
    "strides": "ints+",
    "paddings": "ints",
    "padding_algorithm": "str",
    "dilations": "ints+",
    "groups": "int+",
    "data_format": "str",
}
_INTERPOLATION = {
    "data_format": "str", "out_d": "int", "out_h": "int", "out_w": "int", "scale": "floats", "interp_method": "str",
    "align_corners": "bool", "align_mode": "int",
}  # fmt: skip
_NMS = {
    "score_threshold": "float", "nms_top_k": "int", "keep_top_k": "int", "nms_threshold": "float", "normalized": "bool",
    "nms_eta": "float", "background_label": "int",
}  # fmt: skip


def _unary(kind: str, version: int = 0, fixed: Mapping[str, Any] | None = None, **attributes: str) -> Rule:
    return Rule(kind, (X,), attributes=attributes, fixed=fixed or {}, version=version)


def _binary(kind: str, version: int = 1) -> Rule:
    return Rule(kind, (X, Y), fixed={"axis": -1}, version=version)


def _conv(kind: str) -> Rule:
    return Rule(kind, (Slot("Input"), Slot("Filter")), ("Output",), _CONV, version=1)


def _transposed(kind: str, version: int) -> Rule:
    operands = (Slot("Input"), Slot("Filter"), Constant("output_size", "ints"), Slot("Bias", optional=True))
    return Rule(kind, operands, ("Output",), {**_CONV, "output_padding": "ints"}, version=version)


def _interpolation(kind: str) -> Rule:
    sizes = (
        Slot("OutSize", optional=True),
        Slot("SizeTensor", many=True, optional=True),
        Slot("Scale", optional=True),
    )
    return Rule(kind, (X, *sizes), attributes=_INTERPOLATION, renamed={"data_format": "data_layout"})


def _batch_norm() -> Rule:
    return Rule(
        "batch_norm",
        (X, Slot("Mean"), Slot("Variance"), Slot("Scale"), Slot("Bias")),
        ("Y", "MeanOut", "VarianceOut", "SavedMean", "SavedVariance", ""),
        {
            "is_test": "bool", "momentum": "float", "epsilon": "float", "data_format": "str",
            "use_global_stats": "bool", "trainable_statistics": "bool",
        },
        {"data_format": "data_layout"},
        required={"is_test": True, "trainable_statistics": False},
    )  # fmt: skip


def _reduction(kind: str, **dropped: str) -> Rule:
    operands = (X, Constant("dim", "ints"))
    return Rule(
        kind, operands, attributes={"keepdim": "bool"}, renamed={"keepdim": "keep_dim"}, dropped=dropped
    )


# Operators that differ in names alone; `special.py` writes the others.
RULES: Mapping[str, Rule] = {
    **{
        name: _unary(name)
        for name in ("relu", "sigmoid", "sqrt", "exp", "tanh", "abs", "floor", "ceil", "square")
    },
    **{name: _unary(name) for name in ("log", "rsqrt", "silu", "logical_not")},
    "round": Rule("round", (X,), dropped={"decimals": 0}),
    "mish": Rule("mish", (X,), attributes={"lambda": "float"}, renamed={"lambda": "threshold"}, version=1),
    "relu6": _unary("relu6", fixed={"threshold": 6.0}),
    "swish": _unary("swish", fixed={"beta": 1.0}),
    "hardswish": _unary("hard_swish", fixed={"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    "hardsigmoid": _unary("hard_sigmoid", slope="float", offset="float"),
    "gelu": _unary("gelu", approximate="bool"),
    "elu": _unary("elu", alpha="float"),
    "softplus": _unary("softplus", 1, beta="float", threshold="float"),
    "leaky_relu": Rule(
        "leaky_relu",
        (X,),
        attributes={"negative_slope": "float"},
        renamed={"negative_slope": "alpha"},
        version=1,
    ),
    "softmax": _unary("softmax", axis="int"),
    "assign": _unary("assign"),
    "shape": Rule("shape", (Slot("Input"),)),
    "add": _binary("elementwise_add"),
    "subtract": _binary("elementwise_sub"),
    "multiply": _binary("elementwise_mul"),
    "divide": _binary("elementwise_div"),
    "elementwise_pow": _binary("elementwise_pow"),
    "maximum": _binary("elementwise_max", 0),
    "minimum": _binary("elementwise_min", 0),
    "floor_divide": _binary("elementwise_floordiv", 0),
    "remainder": _binary("elementwise_mod", 0),
    **{name: _binary(name) for name in ("less_than", "less_equal", "equal")},
    **{name: _binary(name) for name in ("greater_than", "greater_equal", "not_equal")},
    "logical_and": Rule("logical_and", (X, Y)),
    "logical_or": Rule("logical_or", (X, Y)),
    "where": Rule("where", (Slot("Condition"), X, Y)),
    "pow": Rule("pow", (X,), attributes={"y": "float"}, renamed={"y": "factor"}),
    "clip": Rule("clip", (X, Constant("min", "float", "Min"), Constant("max", "float", "Max")), version=1),
    "scale": Rule(
        "scale",
        (X, Constant("scale", "float", "ScaleTensor")),
        attributes={"bias": "float", "bias_after_scale": "bool"},
    ),
    "matmul": Rule(
        "matmul_v2",
        (X, Y),
        attributes={"transpose_x": "bool", "transpose_y": "bool"},
        renamed={"transpose_x": "trans_x", "transpose_y": "trans_y"},
    ),
    "conv2d": _conv("conv2d"),
    "depthwise_conv2d": _conv("depthwise_conv2d"),
    "conv2d_transpose": _transposed("conv2d_transpose", 2),
    "depthwise_conv2d_transpose": _transposed("depthwise_conv2d_transpose", 1),
    "batch_norm": _batch_norm(),
    "pool2d": Rule(
        "pool2d",
        (X, Constant("ksize", "ints+")),
        attributes={
            "strides": "ints+",
            "paddings": "ints",
            "ceil_mode": "bool",
            "exclusive": "bool",
            "data_format": "str",
            "pooling_type": "str",
            "global_pooling": "bool",
            "adaptive": "bool",
            "padding_algorithm": "str",
        },
    ),
    "nearest_interp": _interpolation("nearest_interp_v2"),
    "bilinear_interp": _interpolation("bilinear_interp_v2"),
    "transpose": Rule(
        "transpose2", (X,), attributes={"perm": "ints"}, renamed={"perm": "axis"}, shape_output="XShape"
    ),
    "flatten": Rule(
        "flatten_contiguous_range",
        (X,),
        attributes={"start_axis": "int", "stop_axis": "int"},
        shape_output="XShape",
    ),
    "squeeze": Rule("squeeze2", (X, Constant("axes", "ints")), shape_output="XShape"),
    "unsqueeze": Rule("unsqueeze2", (X, Constant("axes", "ints")), shape_output="XShape"),
    "full_like": Rule("fill_any_like", (X, Constant("value", "float")), attributes={"dtype": "dtype"}),
    "concat": Rule("concat", (Slot("X", many=True), Constant("axis", "int"))),
    "stack": Rule("stack", (Slot("X", many=True),), ("Y",), {"axis": "int"}),
    "split": Rule("split", (X, Constant("sections", "ints"), Constant("axis", "int")), fixed={"num": 0}),
    "split_with_num": Rule(
        "split",
        (X, Constant("axis", "int")),
        attributes={"num": "int+"},
        fixed={"sections": TypedList("ints", ())},
    ),
    "slice": Rule(
        "slice",
        (Slot("Input"), Constant("starts", "ints"), Constant("ends", "ints")),
        attributes={"axes": "ints", "infer_flags": "ints", "decrease_axis": "ints"},
    ),
    "expand": Rule("expand_v2", (X, Constant("shape", "ints"))),
    "tile": Rule("tile", (X, Constant("repeat_times", "ints"))),
    "gather": Rule("gather", (X, Slot("Index"), Constant("axis", "int")), version=1),
    "gather_nd": Rule("gather_nd", (X, Slot("Index"))),
    "mean": _reduction("reduce_mean"),
    "sum": _reduction("reduce_sum", dtype="Undefined(ALL_DTYPE)"),
    "max": _reduction("reduce_max"),
    "min": _reduction("reduce_min"),
    "multiclass_nms3": Rule(
        "multiclass_nms3",
        (Slot("BBoxes"), Slot("Scores"), Slot("RoisNum", optional=True)),
        ("Out", "Index", "NmsRoisNum"),
        _NMS,
    ),
}

# Attributes of any operator that say where it stood in the source.
IGNORED = frozenset(
    {"struct_name", "op_callstack", "op_role", "op_dist_attr", "place", "stop_gradient", "persistable"}
)
