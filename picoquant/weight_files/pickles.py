"""Read the pickles that Paddle 2.0 to 2.6 writes, without running code in them.

A pickle is a program. `restricted_load` runs it on Python's own pickle machine, restricted to the
instructions that Paddle's files consist of; the few callables that such files name are replaced by functions
here, which check their arguments. NumPy's own `__setstate__` is never called: with crafted arguments it reads
beyond its memory.

The memory that reading a file uses is bounded by the file's size: `_Budget` counts every byte and entry that
is created.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

_OPERATIONS = 5_000_000  # a detector's file has 20,000
_MOST_DIMENSIONS = 8
_DEPTH = 8  # weights lie two or three deep in their containers
_DTYPE = frozenset("fiub")  # kinds of numbers an array may hold
# Instructions, by pickle's names for them; classes, sets, persistent ids and extensions are left out.
_ALLOWED = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
)


class RefusedError(Exception):
    """A pickle that asks for more than arrays and plain containers; the message names what it asks for."""


def restricted_load(data: bytes) -> Any:
    """The content of a pickle: dicts, lists, tuples, texts, numbers and NumPy arrays of numbers.

    The arrays are read-only.

    Raises: `RefusedError` for a file that asks for anything else; `pickle.UnpicklingError`,
        `ValueError` or another exception for a damaged file.
    """
    return _plain(Machine(data).load(), {})


class _Budget:
    """The number of bytes and of instructions that reading a file may still use."""

    def __init__(self, size: int) -> None:
        self._bytes = 2 * size + (1 << 20)  # latin-1 texts and the bytes made of them count once each
        self._operations = _OPERATIONS

    def spend(self, amount: int) -> None:
        """Count `amount` bytes.

        Raises: `RefusedError` when there are too many.
        """
        self._bytes -= amount
        if self._bytes < 0:
            raise RefusedError("to be read as more than it holds")

    def step(self) -> None:
        """Count one instruction.

        Raises: `RefusedError` when there are too many.
        """
        self._operations -= 1
        if self._operations < 0:
            raise RefusedError(f"for more than {_OPERATIONS} instructions")


class _DType:
    """A `numpy.dtype` while it is read: created from its name, then `build` sets its byte order."""

    def __init__(self, name: Any) -> None:
        if not isinstance(name, str) or len(name) > 3:
            raise RefusedError(f"for the dtype {str(name)[:20]!r}")
        self.value = np.dtype(name)
        if self.value.kind not in _DTYPE:
            raise RefusedError(f"for arrays of {self.value}")

    def build(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        self.value = self.value.newbyteorder(order)


class _Array:
    """A `numpy.ndarray` while it is read: created empty, then `build` sets shape, type and bytes."""

    def __init__(self, budget: _Budget) -> None:
        self._budget, self.value = budget, np.zeros(0, np.float32)

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C", self._budget)


def _array(data: Any, dtype: Any, shape: Any, order: str, budget: _Budget) -> np.ndarray:
    """An array of the bytes `data`, whose number must fit `shape` and `dtype`."""
    if isinstance(data, str):  # written by Python 2
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _DType):
        raise ValueError("an array without bytes or type")
    if isinstance(shape, int):
        shape = (shape,)
    if len(shape) > _MOST_DIMENSIONS or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"an array of shape {str(shape)[:40]}")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    budget.spend(len(data))
    return np.frombuffer(bytes(data), dtype.value).reshape(shape, order=order)


def _functions(budget: _Budget) -> dict[tuple[str, str], Callable[..., Any]]:
    """(module, name) of each callable that a file may name -> the function that is called instead."""

    def reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
        if kind is not ndarray:
            raise RefusedError("for an array of a class of its own")
        return _Array(budget)

    def ndarray(*_: Any) -> None:
        raise RefusedError("for numpy.ndarray to be called")

    def dtype(name: Any, *_: Any) -> _DType:
        return _DType(name)

    def scalar(kind: Any, data: Any) -> Any:
        return _array(data, kind, (1,), "C", budget)[0]

    def from_buffer(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
        if order not in ("C", "F"):
            raise ValueError(f"order {order!r}")
        return _array(data, kind, shape, order, budget)

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes in an unknown encoding")
        budget.spend(len(text))
        return text.encode("latin1")

    def make(kind: type) -> Callable[..., Any]:
        def made(items: Any = ()) -> Any:
            if not isinstance(items, (tuple, list, dict)):
                raise ValueError(f"a {kind.__name__} of {type(items).__name__}")
            budget.spend(8 * len(items))
            return kind(items)

        return made

    def byte_array(data: Any = b"", encoding: Any = None) -> bytes:
        return encode(data, encoding) if isinstance(data, str) else bytes(_require_bytes(data, budget))

    def lod_tensor(expression: Any, scope: Any) -> Any:
        # paddle.save writes a static graph's tensor as eval('data', {'data': array}).
        if expression != "data" or not isinstance(scope, Mapping):
            raise RefusedError("for builtins.eval")
        return scope["data"]

    return {
        ("numpy", "ndarray"): ndarray,
        ("numpy", "dtype"): dtype,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
        ("_codecs", "encode"): encode,
        ("collections", "OrderedDict"): make(dict),
        ("builtins", "tuple"): make(tuple),
        ("builtins", "list"): make(list),
        ("builtins", "dict"): make(dict),
        ("builtins", "bytearray"): byte_array,
        ("builtins", "bytes"): byte_array,  # protocol 2 writes empty bytes so
        ("builtins", "eval"): lod_tensor,
    }


def _require_bytes(data: Any, budget: _Budget) -> bytes:
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError("bytes of something else")  # bytearray(10**12) is a trillion zeros
    budget.spend(len(data))
    return data


class Machine(pickle._Unpickler):  # the one in Python: its instructions can be chosen
    """Pickle's machine with a list of instructions and callables, and a budget.

    Args:
        data: the pickle.
        more: further callables, by module and name, and what is called instead; they check their arguments.
    """

    instructions = _ALLOWED

    def __init__(self, data: bytes, more: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> None:
        self._size = len(data)
        self._stream = io.BytesIO(data)
        super().__init__(self._stream, encoding="latin1")
        self._budget = _Budget(len(data))
        self._functions = {**_functions(self._budget), **(more or {})}
        self._callable_ids = frozenset(map(id, self._functions.values()))

    def find_class(self, module: str, name: str) -> Any:
        """The function that replaces the callable named by a pickle.

        Raises: `RefusedError` for any that is not on the list.
        """
        plain = str(module).replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if (plain, name) not in self._functions:
            raise RefusedError(f"for {module}.{name}"[:120])
        return self._functions[plain, name]

    def _checked(self, code: int, step: Callable[[Any], None]) -> Callable[[Any], None]:
        """An instruction that is counted before it is executed."""

        def checked(machine: Machine) -> None:
            machine._budget.step()
            step(machine)

        return checked

    def load(self) -> Any:
        """Run the pickle and return its result."""
        by_code = {getattr(pickle, name)[0]: name for name in self.instructions}
        own = {"REDUCE": Machine._reduce, "BUILD": type(self)._build, "SETITEM": Machine._set_item}
        own.update(SETITEMS=Machine._set_items, BYTEARRAY8=Machine._byte_array, APPEND=Machine._append)
        own.update(APPENDS=Machine._appends, INT=Machine._int)
        self.dispatch = _Dispatch(
            {
                code: self._checked(code, own.get(name, pickle._Unpickler.dispatch[code]))
                for code, name in by_code.items()
            }
        )
        return super().load()

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        call = self.stack[-1]
        if id(call) not in self._callable_ids or not isinstance(arguments, tuple):
            raise RefusedError(f"to call a {type(call).__name__}")
        self.stack[-1] = call(*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if not isinstance(built, (_Array, _DType)):
            raise RefusedError(f"to change a {type(built).__name__}")
        built.build(state)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], key, value)

    def _set_items(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2]):
            _put(self.stack[-1], key, value)

    def _append(self) -> None:
        value = self.stack.pop()
        _list(self.stack[-1]).append(value)

    def _appends(self) -> None:
        items = self.pop_mark()
        _list(self.stack[-1]).extend(items)

    def _byte_array(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        if length > self._size:
            raise pickle.UnpicklingError("pickle data was truncated")
        self.append(self.read(length))

    def _int(self) -> None:
        text = self.readline()[:-1]
        self.append({b"00": False, b"01": True}.get(text) if text in (b"00", b"01") else int(text[:20]))


class _Dispatch(dict):
    """Instructions by code.

    Raises: `RefusedError` for an instruction that is not allowed, `pickle.UnpicklingError` for an unknown
        one.
    """

    def __missing__(self, code: int) -> Any:
        if code not in pickle._Unpickler.dispatch:
            raise pickle.UnpicklingError(f"no pickle: instruction {code:#x}")
        names = (name for name in pickle.__all__ if getattr(pickle, name) == bytes([code]))
        raise RefusedError(f"for the instruction {next(names, hex(code))}")


def _put(mapping: Any, key: Any, value: Any) -> None:
    # A tuple as a key would be hashed, and a deeply nested one would overflow the stack.
    if type(mapping) is not dict or not isinstance(key, (str, bytes, int)):
        raise RefusedError(f"for a {type(key).__name__} as key of a {type(mapping).__name__}")
    mapping[key] = value


def _list(value: Any) -> list:
    if type(value) is not list:
        raise RefusedError(f"to append to a {type(value).__name__}")
    return value


def _plain(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """`value` with every `_Array` replaced by its NumPy array; containers keep their type.

    A container that occurs several times is converted once, since a few nested lists can expand to a billion.
    """
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, (dict, list, tuple)) or depth > _DEPTH:
        return value
    if id(value) not in seen:
        seen[id(value)] = value  # a reference to itself stays unconverted
        if isinstance(value, dict):
            new = {key: _plain(item, seen, depth + 1) for key, item in value.items()}
        else:
            new = type(value)(_plain(item, seen, depth + 1) for item in value)
        seen[id(value)] = new
    return seen[id(value)]
