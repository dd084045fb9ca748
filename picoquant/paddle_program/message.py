"""New operators, attributes and variables of a `ProgramDesc` message, written and ordered as Paddle does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.utils.paddle_version.differences import TENSOR, set_level_0, tensor_of

# Attributes that Paddle writes for every operator; they have no effect outside training.
ALWAYS = {"op_device": "", "op_namescope": "/", "op_role": 0, "op_role_var": [], "with_quant_attr": False}
# `VarType.Type` of framework.proto by NumPy's name.
DTYPES = {
    "bool": 0, "int16": 1, "int32": 2, "int64": 3, "float32": 5, "float64": 6, "uint8": 20, "int8": 21,
}  # fmt: skip
# Attributes that Paddle writes before all others.
_EXTRA = ("round_type",)


@dataclass(frozen=True)
class TypedList:
    """A list of numbers for an attribute of a kind that its items do not tell.

    Attributes:
        kind: `ints`, `longs`, `floats` or `bools`.
        items: the numbers; none is a list, too.
    """

    kind: str
    items: tuple[Any, ...]


def add_operator(
    program: Any,
    op_type: str,
    inputs: Mapping[str, Sequence[str]],
    outputs: Mapping[str, Sequence[str]],
    attributes: Mapping[str, Any],
) -> Any:
    """A new `OpDesc` for a program, not yet in one of its blocks.

    Args:
        program: the `ProgramDesc` message that it is for.
        op_type: for example `quantize_linear`.
        inputs, outputs: names of variables by slot; the slots are written sorted by name.
        attributes: values by name: bool, int, float, str, a list of int or str, or a `TypedList`.

    Returns: the `OpDesc`.
    """
    from paddle.base.proto import framework_pb2

    op = framework_pb2.OpDesc(type=op_type)
    for slots, names in ((op.inputs, inputs), (op.outputs, outputs)):
        for slot in sorted(names):
            slots.add(parameter=slot, arguments=names[slot])
    own = {name: value for name, value in attributes.items() if name not in _EXTRA}
    for name in _EXTRA:
        if name in attributes:
            _fill(op.attrs.add(), name, attributes[name])
    for name, value in sorted({**ALWAYS, **own}.items()):
        _fill(op.attrs.add(), name, value)
    return op


def add_attribute(op: Any, name: str, value: Any) -> None:
    """Set an attribute of an operator; a new one is inserted in Paddle's order, sorted by name.

    Args:
        op: an `OpDesc` message; changed in place.
        name: name of the attribute.
        value: bool, int, float, str, or a list of int or str.
    """
    for attribute in op.attrs:
        if attribute.name == name:
            attribute.Clear()
            _fill(attribute, name, value)
            return
    names = [attribute.name for attribute in op.attrs]
    # The extra attributes come first, then all others; each part is sorted by name.
    start = max((index for index in range(1, len(names)) if names[index] < names[index - 1]), default=0)
    position = next((index for index in range(start, len(names)) if names[index] > name), len(names))
    later = [type(attribute).FromString(attribute.SerializeToString()) for attribute in op.attrs[position:]]
    del op.attrs[position:]
    _fill(op.attrs.add(), name, value)
    op.attrs.extend(later)


def add_variable(
    program: Any, name: str, shape: Sequence[int], dtype: str = "float32", stored: bool = False
) -> Any:
    """A new `VarDesc` for a program, not yet in one of its blocks.

    Args:
        program: the `ProgramDesc` message that it is for.
        name: name of the variable.
        shape: its shape, -1 for an unknown length.
        dtype: one of `DTYPES`.
        stored: whether its value is in the model's files.

    Returns: the `VarDesc`.
    """
    from paddle.base.proto import framework_pb2

    variable = framework_pb2.VarDesc(name=name, persistable=stored)
    variable.type.type = TENSOR
    tensor = tensor_of(variable.type)
    tensor.data_type = DTYPES[dtype]
    tensor.dims.extend(shape)
    if not stored:
        set_level_0(variable.type)
    return variable


_STORING = "assign_value"
# Paddle 2.6's attributes of stored numbers, by `VarType.Type`.
_NUMBERS = {
    0: ("bool_values", "ints"),
    2: ("int32_values", "ints"),
    3: ("int64_values", "longs"),
    5: ("fp32_values", "floats"),
}


def write_numbers_plainly(program: Any) -> None:
    """Give each `assign_value` the attribute for its type of numbers, as Paddle 2.6 writes it and Paddle Lite reads it.

    Paddle 3 has one attribute for all, a list of scalars, and turns the others into it whenever it loads a program that
    does not say the operator's later version: with that version it reads no numbers at all, and computes with whatever
    memory holds. So the version goes, too.

    Args:
        program: a `ProgramDesc` message; changed in place.
    """
    for op in _storing(program):
        stored = next((one for one in op.attrs if one.name == "values" and len(one.scalars)), None)
        kind = next((one.i for one in op.attrs if one.name == "dtype"), None)
        if stored is None or kind not in _NUMBERS:
            continue
        own, field = _NUMBERS[kind]
        numbers = [one.b if one.type == 1 else one.i if one.type == 2 else one.r for one in stored.scalars]
        for name, kept in _NUMBERS.values():
            add_attribute(
                op, name, TypedList(kept, tuple(map(_KINDS[field], numbers)) if name == own else ())
            )
        others = [type(one).FromString(one.SerializeToString()) for one in op.attrs if one.name != "values"]
        del op.attrs[:]
        op.attrs.extend(others)
    if not any(one.name == "values" for op in _storing(program) for one in op.attrs):
        pairs = program.op_version_map.pair
        for place in [place for place, pair in enumerate(pairs) if pair.op_name == _STORING][::-1]:
            del pairs[place]


def _storing(program: Any) -> list[Any]:
    return [op for block in program.blocks for op in block.ops if op.type == _STORING]


_KINDS = {"ints": int, "longs": int, "floats": float}


def _fill(attribute: Any, name: str, value: Any) -> None:
    from paddle.base.proto import framework_pb2

    attribute.name = name
    if isinstance(value, bool):
        attribute.type, attribute.b = framework_pb2.BOOLEAN, value
    elif isinstance(value, int):
        attribute.type, attribute.i = framework_pb2.INT, value
    elif isinstance(value, float):
        attribute.type, attribute.f = framework_pb2.FLOAT, value
    elif isinstance(value, str):
        attribute.type, attribute.s = framework_pb2.STRING, value
    elif isinstance(value, TypedList):
        attribute.type = framework_pb2.AttrType.Value(value.kind.upper())
        getattr(attribute, value.kind).extend(value.items)
    elif value and isinstance(value[0], int):
        attribute.type = framework_pb2.INTS
        attribute.ints.extend(value)
    else:
        attribute.type = framework_pb2.STRINGS
        attribute.strings.extend(value)
