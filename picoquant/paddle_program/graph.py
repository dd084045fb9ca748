"""The graph of a Paddle program: its operators and tensors as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from picoquant.utils.paddle_version.differences import TENSOR, holds_tensor, tensor_of

FEED, FETCH = "feed", "fetch"
# Slots of outputs that only training reads, or that hold shapes: a device never computes with them.
BOOKKEEPING = ("XShape", "MeanOut", "VarianceOut", "SavedMean", "SavedVariance", "ReserveSpace")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network.

    Attributes:
        name: name of the tensor.
        shape: the shape in the program, -1 for an unknown length; None if the shape is unknown.
        dtype: `float32`, `int8`, …; for a stored tensor the type of the values in the file; empty if unknown.
        stored: whether it is a weight or another constant in the model's files.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    stored: bool

    @property
    def size(self) -> int:
        """Number of elements; 0 if the shape is unknown."""
        return 0 if self.shape is None else max(0, int(np.prod(self.shape)))


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        name: name of its first result, which identifies it in messages and in partition files.
        op_type: its type, for example `conv2d`.
        inputs, outputs: (slot with position, tensor), for example `("Input0", "relu6_1.tmp_0")`.
        attributes: values by name; scales are `<slot><position>_scale`.
    """

    name: str
    op_type: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    attributes: Mapping[str, Any]

    def input(self, slot: str) -> str | None:
        """Name of the input tensor at a slot with its position (`Filter0`); None if there is none."""
        return dict(self.inputs).get(slot)

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the output tensors, without those in `BOOKKEEPING` slots."""
        return tuple(name for slot, name in self.outputs if not slot.startswith(BOOKKEEPING))

    def scale(self, slot: str) -> tuple[float, ...] | None:
        """The scale of an input or output, one value or one per channel; None if it has none."""
        value = self.attributes.get(f"{slot}_scale")
        return None if value is None else tuple(np.atleast_1d(value).tolist())


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        operators: in execution order, without feed and fetch.
        tensors: all tensors, by name.
        inputs, outputs: names of the network's inputs and outputs.
    """

    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def tensor(self, name: str) -> Tensor:
        """A tensor by name; a `Tensor` of unknown shape and type if the program does not list it."""
        return self.tensors.get(name) or Tensor(name, None, "", False)

    def is_activation(self, name: str) -> bool:
        """Whether a tensor is computed, not stored, and has the type float32."""
        tensor = self.tensors.get(name)
        return tensor is not None and not tensor.stored and tensor.dtype == "float32"

    def users(self, name: str) -> tuple[Operator, ...]:
        """The operators that read a tensor, in execution order."""
        return self._users.get(name, ())

    def producer(self, name: str) -> Operator | None:
        """The operator that computes a tensor; None for inputs and stored tensors."""
        return self._producers.get(name)

    @cached_property
    def _users(self) -> dict[str, tuple[Operator, ...]]:
        found: dict[str, list[Operator]] = {}
        for op in self.operators:
            for name in dict.fromkeys(name for _, name in op.inputs):
                found.setdefault(name, []).append(op)
        return {name: tuple(users) for name, users in found.items()}

    @cached_property
    def _producers(self) -> dict[str, Operator]:
        return {name: op for op in self.operators for _, name in op.outputs}


def read_graph(program: Any) -> Graph:
    """The graph of a `ProgramDesc` message's first block."""
    block = program.blocks[0]
    operators = [read_operator(op) for op in block.ops]
    feeds = [name for op in operators if op.op_type == FEED for _, name in op.outputs]
    fetches = [name for op in operators if op.op_type == FETCH for _, name in op.inputs]
    inside = tuple(op for op in operators if op.op_type not in (FEED, FETCH))
    return Graph(inside, read_tensors(block), tuple(feeds), tuple(fetches))


def read_operator(op: Any) -> Operator:
    """An operator of an `OpDesc` message."""
    inputs, outputs = _slots(op.inputs), _slots(op.outputs)
    results = [name for slot, name in outputs if not slot.startswith(BOOKKEEPING)]
    name = (results or [name for _, name in outputs] or [op.type])[0]
    return Operator(name, op.type, inputs, outputs, read_attributes(op))


def _slots(slots: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{slot.parameter}{position}", name)
        for slot in slots
        for position, name in enumerate(slot.arguments)
    )


# The field that holds the value for each `AttrType` of framework.proto, from 0; empty for types of variables.
_FIELDS = (
    "i", "f", "s", "ints", "floats", "strings", "b", "bools", "block_idx", "l", "blocks_idx", "longs",
    "float64s", "", "", "float64", "scalar", "scalars",
)  # fmt: skip
# The field of a `Scalar`'s value for each of its types, from 1.
_SCALARS = ("b", "i", "r")


def read_attributes(op: Any) -> dict[str, Any]:
    """The attributes of an `OpDesc` message by name, lists as tuples; but for those that are variables."""
    values = {}
    for attribute in op.attrs:
        field = _FIELDS[attribute.type] if attribute.type < len(_FIELDS) else ""
        if field:
            value = getattr(attribute, field)
            if field == "scalar":
                value = _number(value)
            elif field == "scalars":
                value = map(_number, value)
            values[attribute.name] = value if isinstance(value, (int, float, str)) else tuple(value)
    return values


def _number(scalar: Any) -> Any:
    """The value of a `Scalar` message; NaN for a complex one, which no network computes with."""
    place = scalar.type - 1
    return getattr(scalar, _SCALARS[place]) if 0 <= place < len(_SCALARS) else float("nan")


_DTYPES = {
    "BOOL": "bool", "INT8": "int8", "UINT8": "uint8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


def read_tensors(block: Any) -> dict[str, Tensor]:
    """The tensors of a `BlockDesc` message, by name."""
    from paddle.base.proto import framework_pb2

    names = framework_pb2.VarType.Type.Name
    tensors = {}
    for var in block.vars:
        if holds_tensor(var.type) and var.type.type == TENSOR:
            tensor = tensor_of(var.type)
            dtype = _DTYPES.get(names(tensor.data_type), "")
            # A tensor of rank 0 has no dims, like one of unknown shape: the two cannot be told apart.
            shape = tuple(tensor.dims) or None
            tensors[var.name] = Tensor(var.name, shape, dtype, var.persistable)
    return tensors
