"""Attributes of an operation, checked for what a rule says of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from picoquant.paddle_program.message import DTYPES, TypedList
from picoquant.paddle_program.pir.document import Operation, PirError
from picoquant.paddle_program.pir.rules import IGNORED

_SINGLE = {"bool": bool, "int": int, "float": float, "str": str, "dtype": str}
_ITEMS = {"ints": int, "longs": int, "floats": float}
_INT32 = 2**31


def require_known(op: Operation, names: Collection[str]) -> None:
    """Check that an operation has no other attributes: one that is not understood may change what it computes.

    Raises: `PirError` naming the first other one.
    """
    other = next((name for name in op.attributes if name not in names and name not in IGNORED), None)
    if other is not None:
        raise PirError(f"{op.where}, has an attribute {other[:40]!r}, which is not read")


def attribute(op: Operation, name: str, kind: str) -> Any:
    """An attribute of a kind of `Rule.attributes`, as `message.add_operator` takes it.

    Raises: `PirError` if it is missing or of another kind.
    """
    if name not in op.attributes:
        raise PirError(f"{op.where}, has no attribute {name!r}")
    return checked(op.attributes[name], kind, f"{op.where}: {name!r}")


def checked(value: Any, kind: str, where: str) -> Any:
    """A value of a kind of `Rule.attributes`, as `message.add_operator` takes it.

    Args:
        value: a plain value, or a tuple of them.
        kind: of the older operator's attribute.
        where: for messages.

    Raises: `PirError` if it is of another kind.
    """
    positive, kind = kind.endswith("+"), kind.rstrip("+")
    items = value if kind in _ITEMS else (value,)
    expected = _ITEMS.get(kind) or _SINGLE[kind]
    if expected is float and isinstance(items, tuple):
        items = tuple(float(item) if type(item) is int else item for item in items)
    if not isinstance(items, tuple) or not all(type(item) is expected for item in items):
        raise PirError(f"{where} is {str(value)[:40]!r}, {kind} expected")
    if kind in ("int", "ints") and not all(-_INT32 <= item < _INT32 for item in items):
        raise PirError(f"{where} is {str(value)[:40]}, beyond 32 bits")
    if positive and not all(item > 0 for item in items):
        raise PirError(f"{where} is {str(value)[:40]}, above 0 expected")
    if kind == "dtype":
        if value not in DTYPES:
            raise PirError(f"{where} is {value[:40]!r}, which is not read: export it in float32")
        return DTYPES[value]
    return TypedList(kind, items) if kind in _ITEMS else items[0]
