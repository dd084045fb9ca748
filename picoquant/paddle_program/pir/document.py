"""The content of an `inference.json`: operators, values and attributes as plain Python values, checked.

Source of the format: Paddle 3.3's `paddle/fluid/pir/serialize_deserialize` (`schema.h` for the keys, `ir_serialize.cc`
and `serialize_utils.h` for what stands under them).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

# Of a PicoDet's program 0.6 MB; Python's objects of JSON take about ten times its bytes.
MOST_BYTES = 32 << 20
# What Paddle 3.3.1 writes.
NEWEST = 4
_LARGEST = 2**31 - 1  # of a dimension, and of a value's number
_MOST_DIMENSIONS = 9  # Paddle's own limit

_TYPES = {
    "0.t_bool": "bool", "0.t_i8": "int8", "0.t_ui8": "uint8", "0.t_i16": "int16", "0.t_i32": "int32",
    "0.t_i64": "int64", "0.t_f16": "float16", "0.t_bf16": "bfloat16", "0.t_f32": "float32", "0.t_f64": "float64",
}  # fmt: skip
_DIALECTS = {"0": "builtin", "1": "pd_op", "2": "cf", "3": "custom_op", "4": "pd_dist"}


class PirError(Exception):
    """What is wrong with a program, for the end of a message."""


@dataclass(frozen=True)
class Type:
    """A dense tensor's type; `shape` holds -1 for a length that is known only when it runs."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A result of an operation: one tensor, several in a list, or nothing (an optional result that is left out)."""

    number: int
    type: Union[Type, tuple[Type, ...], None]


@dataclass(frozen=True)
class Unread:
    """An attribute of a kind that no operator read here has."""

    kind: str


@dataclass(frozen=True)
class Operation:
    """An operation.

    Attributes:
        where: its place and name, for messages.
        name: `builtin.combine`; without its dialect where that is Paddle's own (`conv2d`), and without the underscore
            at the end of one that computes in place: its result is a value of its own all the same.
        attributes: bool, int, float, str, tuples of them, or `Unread`, by name.
        inputs: numbers of values; 0 for an optional input that is left out.
        results: what it computes.
    """

    where: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[int, ...]
    results: tuple[Value, ...]


@dataclass(frozen=True)
class PirProgram:
    """A program.

    Attributes:
        version: of the format.
        parameters: stored values by name.
        operations: in execution order.
    """

    version: int
    parameters: Mapping[str, Value]
    operations: tuple[Operation, ...]


def is_pir(data: bytes) -> bool:
    """Whether the bytes of a program are JSON: a `ProgramDesc` never begins with a brace."""
    return data[:64].lstrip()[:1] == b"{"


def read_document(data: bytes) -> PirProgram:
    """Read the bytes of an `inference.json`; nothing of it is run.

    Raises: `PirError` naming what is wrong: no such JSON, a newer version, control flow, wrong kinds of values.
    """
    if len(data) > MOST_BYTES:
        raise PirError(f"{len(data) >> 20} MiB are more than any PicoDet's program")
    try:
        content = json.loads(data, parse_constant=_no_number)
    except RecursionError as error:
        raise PirError("it is nested too deep") from error
    except (ValueError, MemoryError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise PirError(f"it is no JSON: {' '.join(str(error).split())[:100]}") from error
    header = _get(content, "base_code", dict, "the file")
    if header.get("magic") != "pir":
        raise PirError("its base_code.magic is not pir, so Paddle did not write it")
    version = _get(header, "version", int, "base_code")
    if not 0 <= version <= NEWEST:
        raise PirError(
            f"it has version {version}, of a later PaddlePaddle than 3.3, whose programs have at most {NEWEST}"
        )
    block = _only(_get(_get(content, "program", dict, "the file"), "regions", list, "the program"), "region")
    block = _only(_get(block, "blocks", list, "the region"), "block")
    if _get(block, "args", list, "the block") or block.get("kwargs"):
        raise PirError("its block takes arguments, so it is no whole network")
    parameters: dict[str, Value] = {}
    operations = []
    for place, raw in enumerate(_get(block, "ops", list, "the block")):
        kind = _get(raw, "#", str, f"operation {place}")
        if kind in ("p", "0.parameter"):
            name, value = _parameter(raw, kind, f"parameter {place}")
            if name in parameters:
                raise PirError(f"two parameters are called {name[:50]!r}")
            parameters[name] = value
        else:
            operations.append(_operation(raw, kind, place))
    return PirProgram(version, parameters, tuple(operations))


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _get(mapping: Any, key: str, kind: type, where: str) -> Any:
    """A value by key, of a kind.

    Raises: `PirError`.
    """
    if not isinstance(mapping, dict):
        raise PirError(f"{where} is a {type(mapping).__name__}, not an object")
    value = mapping.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        what = "is missing" if value is None else f"is a {type(value).__name__}"
        raise PirError(f"{where}: {key!r} {what}, a {kind.__name__} is expected")
    return value


def _only(items: list[Any], what: str) -> Any:
    if len(items) != 1:
        raise PirError(f"it has {len(items)} {what}s, one is expected")
    return items[0]


def _parameter(raw: Any, kind: str, where: str) -> tuple[str, Value]:
    """Name and value of a parameter; its attributes are listed without names: distributed, parameter, clip, name."""
    attributes = _get(raw, "A", list, where)
    if kind == "p":
        name = attributes[3] if len(attributes) > 3 else None
    else:
        name = _attributes(attributes, where).get("parameter_name")
    if not isinstance(name, str) or not name:
        raise PirError(f"{where} has no name")
    result = raw.get("O")
    value = _value(_only(result, "result") if isinstance(result, list) else result, where)
    if not isinstance(value.type, Type) or not all(side >= 0 for side in value.type.shape):
        raise PirError(f"{where}, {name[:50]!r}, has no fixed shape")
    return name, value


def _operation(raw: Any, kind: str, place: int) -> Operation:
    dialect, _, plain = kind.partition(".")
    dialect = _DIALECTS.get(dialect, dialect)
    name = plain.rstrip("_") if dialect == "pd_op" else f"{dialect}.{plain}"
    where = f"operation {place}, {dialect}.{plain}"[:100]
    if raw.get("regions"):
        raise PirError(f"{where}, has blocks of its own: control flow is not read")
    inputs = tuple(_number(item, where) for item in _get(raw, "I", list, where))
    results = tuple(_value(item, where) for item in _get(raw, "O", list, where))
    return Operation(where, name, _attributes(_get(raw, "A", list, where), where), inputs, results)


def _number(item: Any, where: str) -> int:
    number = _get(item, "%", int, where)
    if not 0 <= number <= _LARGEST:
        raise PirError(f"{where}: value {number} is out of range")
    return int(number)


def _value(item: Any, where: str) -> Value:
    number = _number(item, where)
    kind = _get(item, "TT", dict, where)
    if kind.get("#") == "NULL":
        return Value(number, None)
    if kind.get("#") == "0.t_vec":
        return Value(number, tuple(_type(one, where) for one in _get(kind, "D", list, where)))
    return Value(number, _type(kind, where))


def _type(kind: Any, where: str) -> Type:
    name = _get(kind, "#", str, where)
    if name != "0.t_dtensor":
        raise PirError(f"{where}: {name[:40]!r} is no type of a dense tensor")
    parts = _get(kind, "D", list, where)
    dtype = _TYPES.get(_get(parts[0], "#", str, where)) if parts else None
    if dtype is None or len(parts) < 2:
        raise PirError(f"{where}: a tensor's type of numbers is none known here")
    shape = parts[1]
    whole = isinstance(shape, list) and all(type(side) is int and -1 <= side <= _LARGEST for side in shape)
    if not whole or len(shape) > _MOST_DIMENSIONS:
        raise PirError(f"{where}: {str(shape)[:40]} is no shape")
    return Type(dtype, tuple(shape))


def _attributes(listed: list[Any], where: str) -> dict[str, Any]:
    found = {}
    for item in listed:
        name = _get(item, "N", str, where)
        found[name] = _attribute(_get(item, "AT", dict, where), f"{where}: {name[:40]!r}")
    return found


def _attribute(item: Any, where: str) -> Any:
    """An attribute's value as a plain one."""
    kind, data = _get(item, "#", str, where), item.get("D")
    if kind == "0.a_bool":
        return _plain(data, bool, where)
    if kind in ("0.a_i32", "0.a_i64", "0.a_index"):
        return _plain(data, int, where)
    if kind in ("0.a_f32", "0.a_f64"):
        return _plain(data, float, where)
    if kind in ("0.a_str", "1.a_dtype", "1.a_layout"):
        return _plain(data, str, where)
    if kind == "1.a_intarray":
        return tuple(_plain(one, int, where) for one in _plain(data, list, where))
    if kind == "1.a_scalar":
        pair = _plain(data, list, where)
        if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], (bool, int, float)):
            raise PirError(f"{where} is no number")
        return _plain(pair[1], float, where) if isinstance(pair[1], float) else pair[1]
    if kind == "0.a_array":
        return tuple(_attribute(one, where) for one in _plain(data, list, where))
    return Unread(kind)


def _plain(value: Any, kind: type, where: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**63 else None
    finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is not kind or not finite:
        raise PirError(f"{where} is {str(value)[:40]!r}, a {kind.__name__} is expected")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise PirError(f"{where} is {str(value)[:40]}, beyond 64 bits")
    return value
