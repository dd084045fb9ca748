"""Operators of PIR that are more than another name for an older operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from picoquant.paddle_program.message import DTYPES, TypedList
from picoquant.paddle_program.pir.attributes import attribute, checked, require_known
from picoquant.paddle_program.pir.document import Operation, PirError, Type
from picoquant.paddle_program.pir.translation import Number, Translation

_MOST_FULL = 1 << 20  # elements of a constant of one value that is kept as such


def _data(state: Translation, op: Operation) -> None:
    require_known(op, ("name", "shape", "dtype"))
    name = attribute(op, "name", "str")
    kind = op.results[0].type if op.results else None
    if not isinstance(kind, Type) or name in state.types or not name:
        raise PirError(f"{op.where}, is no input with a name of its own")
    if kind.dtype not in DTYPES:
        raise PirError(f"its input {name[:50]!r} is {kind.dtype}: export it in float32")
    state.types[name] = kind
    state.inputs.append(name)
    state.define(op, op.results[0], name)


def _fetch(state: Translation, op: Operation) -> None:
    require_known(op, ("name", "col"))
    column = attribute(op, "col", "int")
    if column in state.outputs:
        raise PirError(f"{op.where}, gives output {column} again")
    name = state.tensor(op, 0)
    made = any(name in names for done in state.operators for names in done.outputs.values())
    if not made or name in state.outputs.values():  # an input or a weight: an output is made by an operator
        source, name = name, state.new("assign", state.types[name])
        state.emit("assign", {"X": (source,)}, {"Out": (name,)}, {})
    state.outputs[column] = name


def _full(state: Translation, op: Operation) -> None:
    require_known(op, ("shape", "value", "dtype"))
    kind = op.results[0].type if op.results else None
    value = op.attributes.get("value")
    if (
        not isinstance(kind, Type)
        or any(side < 0 for side in kind.shape)
        or not isinstance(value, (int, float))
    ):
        raise PirError(f"{op.where}, is no constant of a known shape")
    if prod(kind.shape) > _MOST_FULL:
        raise PirError(f"{op.where}, makes {prod(kind.shape)} numbers, more than any PicoDet does")
    if attribute(op, "dtype", "str") != kind.dtype:
        raise PirError(f"{op.where}, is {attribute(op, 'dtype', 'str')} and {kind.dtype}")
    state.define(op, op.results[0], Number((value,) * prod(kind.shape), kind))


def _full_int_array(state: Translation, op: Operation) -> None:
    require_known(op, ("value", "dtype"))
    values = op.attributes.get("value")
    kind = op.results[0].type if op.results else None
    if not isinstance(values, tuple) or not all(type(item) is int for item in values):
        raise PirError(f"{op.where}, is no list of whole numbers")
    if not isinstance(kind, Type) or kind != Type("int64", (len(values),)):
        raise PirError(f"{op.where}, is no list of whole numbers")
    state.define(op, op.results[0], Number(values, kind))


def _combine(state: Translation, op: Operation) -> None:
    require_known(op, ())
    for place in range(len(op.inputs)):
        if state.entry(op, place) is None:
            raise PirError(f"{op.where}, takes nothing as operand {place}")
    if not op.results:
        raise PirError(f"{op.where}, has no result")
    state.define(op, op.results[0], op.inputs)


def _parts(state: Translation, op: Operation) -> None:
    """`builtin.split`: a list's items."""
    require_known(op, ())
    items = state.entry(op, 0)
    if not isinstance(items, tuple) or len(items) != len(op.results):
        raise PirError(f"{op.where}, takes no list of {len(op.results)}")
    for number, result in zip(items, op.results):
        state.define(op, result, state.entries[number])


def _item(state: Translation, op: Operation) -> None:
    """`builtin.slice`: one item of a list."""
    require_known(op, ("index",))
    items, index = state.entry(op, 0), attribute(op, "index", "int")
    if not isinstance(items, tuple) or not 0 <= index < len(items) or not op.results:
        raise PirError(f"{op.where}, takes no item of a list")
    state.define(op, op.results[0], state.entries[items[index]])


def _reshape(state: Translation, op: Operation) -> None:
    """A shape that is computed becomes a constant one where at most one side of the result is unknown."""
    require_known(op, ())
    kind = op.results[0].type if op.results else None
    if not isinstance(kind, Type):
        raise PirError(f"{op.where}, has no tensor as result")
    source, wanted = state.type_of(op, 0), state.entry(op, 1)
    if isinstance(wanted, Number):
        target = checked(wanted.values, "ints", f"{op.where}: its shape").items
        if len(target) != len(kind.shape) or any(
            side > 0 and side != other for side, other in zip(target, kind.shape)
        ):
            raise PirError(f"{op.where}, makes {list(target)}, its result is {list(kind.shape)}")
        if all(side > 0 for side in kind.shape):
            target = kind.shape
    elif kind.shape.count(-1) <= 1:
        target = kind.shape
    else:
        raise PirError(
            f"{op.where}, computes a shape of which more than one side is unknown: fix the input's size"
        )
    if -1 not in (*source.shape, *kind.shape) and prod(source.shape) != prod(kind.shape):
        raise PirError(f"{op.where}, makes {list(kind.shape)} of {list(source.shape)}")
    inputs = {"X": (state.tensor(op, 0),)}
    name = state.result(op, 0, "reshape2")
    outputs = {
        "Out": (name,),
        "XShape": (state.new("reshape2.XShape", Type(source.dtype, (0, *source.shape))),),
    }
    state.emit("reshape2", inputs, outputs, {"shape": TypedList("ints", target)})


def _cast(state: Translation, op: Operation) -> None:
    require_known(op, ("dtype",))
    source = state.type_of(op, 0)
    attributes = {"in_dtype": DTYPES[source.dtype], "out_dtype": attribute(op, "dtype", "dtype")}
    inputs = {"X": (state.tensor(op, 0),)}
    state.emit("cast", inputs, {"Out": (state.result(op, 0, "cast"),)}, attributes)


def _shape64(state: Translation, op: Operation) -> None:
    """The older operator gives int32."""
    require_known(op, ())
    rank = len(state.type_of(op, 0).shape)
    short = state.new("shape", Type("int32", (rank,)))
    state.emit("shape", {"Input": (state.tensor(op, 0),)}, {"Out": (short,)}, {})
    name = state.result(op, 0, "cast")
    if state.types[name].dtype != "int64":
        raise PirError(f"{op.where}, gives {state.types[name].dtype}, int64 expected")
    types = {"in_dtype": DTYPES["int32"], "out_dtype": DTYPES["int64"]}
    state.emit("cast", {"X": (short,)}, {"Out": (name,)}, types)


def _assign_value(state: Translation, op: Operation) -> None:
    require_known(op, ("shape", "dtype", "values"))
    kind = op.results[0].type if op.results else None
    values = op.attributes.get("values")
    numbers = isinstance(values, tuple) and all(isinstance(item, (bool, int, float)) for item in values)
    if not isinstance(kind, Type) or not isinstance(values, tuple) or not numbers:
        raise PirError(f"{op.where}, has no numbers")
    if any(side < 0 for side in kind.shape) or len(values) != prod(kind.shape):
        raise PirError(f"{op.where}, has {len(values)} numbers for {list(kind.shape)}")
    state.define(op, op.results[0], Number(values, kind))


SPECIAL: Mapping[str, Callable[[Translation, Operation], None]] = {
    "data": _data,
    "fetch": _fetch,
    "full": _full,
    "full_int_array": _full_int_array,
    "builtin.combine": _combine,
    "builtin.split": _parts,
    "builtin.slice": _item,
    "reshape": _reshape,
    "cast": _cast,
    "shape64": _shape64,
    "assign_value": _assign_value,
}
