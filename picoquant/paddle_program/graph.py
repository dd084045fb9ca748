"""A network as opt has split it: read from the program that opt writes with `--optimize_out_type=protobuf`.

There, each NPU piece is one `subgraph` operator whose own block holds the piece's operators; conversions are
`calib` (numbers), `io_copy` and `layout` operators; everything else runs on the CPU.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import ToolError

NPU, CPU, CONVERSION, BORDER = "npu", "cpu", "conversion", "border"
_CONVERSIONS = ("calib", "io_copy", "layout")
_KERNEL = "__@kernel_type_attr@__"
# What opt appends to the name of a tensor that it has converted or copied.
_CONVERTED = ("/precision_trans", "/target_trans", "/layout_trans")
# Results that only training reads, and shapes: never numbers that the NPU computes with.
BOOKKEEPING = ("XShape", "MeanOut", "VarianceOut", "SavedMean", "SavedVariance", "ReserveSpace")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network.

    Attributes:
        shape: for one image; -1 for a size that is not known; None where nothing is known.
        dtype: `float32`, `int8`, … ; of a stored tensor that of the values in the file.
        stored: whether it is a weight.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    stored: bool

    @property
    def size(self) -> int:
        """Elements; 0 where the shape is not known."""
        return 0 if self.shape is None else max(0, int(np.prod(self.shape)))


@dataclass(frozen=True)
class Operator:
    """An operator and where it runs.

    Attributes:
        name: its first result, which names it in messages and in partition files.
        kind: its type.
        inputs, outputs: (slot with position, tensor), for example `("Input0", "relu6_1.tmp_0")`.
        place: `npu`, `cpu`, `conversion`, or `border` for feed and fetch.
        piece: which NPU piece, from 0; -1 elsewhere.
        kernel: opt's name of its kernel, for example `fp32_to_int8` of a calib.
        attributes: by name; scales are `<slot><position>_scale`.
    """

    name: str
    kind: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    place: str
    piece: int
    kernel: str
    attributes: Mapping[str, Any]

    def scale(self, slot: str) -> tuple[float, ...] | None:
        """The scale of an input or result, one value or one a channel; None: it has none."""
        value = self.attributes.get(f"{slot}_scale")
        return None if value is None else tuple(np.atleast_1d(value).tolist())

    @property
    def line(self) -> str:
        """The operator in a partition file: `type:inputs:outputs`."""
        results = ",".join(name for slot, name in self.outputs if not slot.startswith(BOOKKEEPING))
        return f"{self.kind}::{results}"


@dataclass(frozen=True)
class Split:
    """A network as opt left it.

    Attributes:
        operators: in the order of running, those of the pieces in place of the piece.
        tensors: by name.
        inputs, outputs: names of the network's own, as opt's program feeds and fetches them.
    """

    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def at(self, place: str) -> tuple[Operator, ...]:
        """The operators of one place."""
        return tuple(op for op in self.operators if op.place == place)

    @property
    def pieces(self) -> tuple[tuple[Operator, ...], ...]:
        """The NPU pieces' operators."""
        on_npu = self.at(NPU)
        count = max((op.piece for op in on_npu), default=-1) + 1
        return tuple(tuple(op for op in on_npu if op.piece == piece) for piece in range(count))

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name; of one that opt's program does not list nothing is known."""
        return self.tensors.get(name) or Tensor(name, None, "", False)


def plain_name(name: str) -> str:
    """A tensor's name without what opt appended for a conversion."""
    for mark in _CONVERTED:
        name = name.partition(mark)[0]
    return name


def source_split(program: Any) -> Split:
    """A program as it is given to opt, in the same form, everything on the CPU.

    opt lets tensors that run on the CPU share names to save memory; here each has its own name and shape.
    """
    main = program.blocks[0]
    places = {"feed": BORDER, "fetch": BORDER}
    operators = [_operator(op, places.get(op.type, CPU), -1) for op in main.ops]
    feeds = [name for op in operators if op.kind == "feed" for _, name in op.outputs]
    fetches = [name for op in operators if op.kind == "fetch" for _, name in op.inputs]
    return Split(tuple(operators), _tensors(main, {}, {}), tuple(feeds), tuple(fetches))


def _operator(op: Any, place: str, piece: int) -> Operator:
    inputs, outputs = _slots(op.inputs), _slots(op.outputs)
    attributes = _attributes(op)
    kernel = str(attributes.pop(_KERNEL, ""))
    results = [name for slot, name in outputs if not slot.startswith(BOOKKEEPING)]
    name = (results or [name for _, name in outputs] or [op.type])[0]
    alias = kernel.split("/")[1] if kernel.count("/") else ""
    return Operator(name, op.type, inputs, outputs, place, piece, alias, attributes)


def _slots(slots: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{slot.parameter}{position}", name)
        for slot in slots
        for position, name in enumerate(slot.arguments)
    )


# The field of each of framework.proto's `AttrType`, from 0; those for variables are left out.
_FIELDS = (
    "i", "f", "s", "ints", "floats", "strings", "b", "bools", "block_idx", "l", "blocks_idx", "longs",
    "float64s", "", "", "float64",
)  # fmt: skip


def _attributes(op: Any) -> dict[str, Any]:
    """Values by name, read from the field that each attribute's type names."""
    values = {}
    for attribute in op.attrs:
        field = _FIELDS[attribute.type] if attribute.type < len(_FIELDS) else ""
        if field:
            value = getattr(attribute, field)
            values[attribute.name] = value if isinstance(value, (int, float, str)) else tuple(value)
    return values


def _tensors(
    block: Any, stored_types: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    from paddle.base.proto import framework_pb2

    names = framework_pb2.VarType.Type.Name
    tensors = {}
    for var in block.vars:
        if var.type.HasField("lod_tensor"):
            tensor = var.type.lod_tensor.tensor
            dtype = stored_types.get(var.name) or _DTYPES.get(names(tensor.data_type), "")
            shape = tuple(tensor.dims) or shapes.get(plain_name(var.name))
            tensors[var.name] = Tensor(var.name, shape, dtype, var.persistable)
    return tensors


_DTYPES = {
    "BOOL": "bool", "INT8": "int8", "UINT8": "uint8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


def _stored_types(path: Path, block: Any) -> dict[str, str]:
    """The types of the stored values: opt's program calls them float where the file holds INT8.

    The file is Paddle's combined one: the tensors in the order of their names, each a version, its levels of
    detail, a version, and the length of a `TensorDesc` with that message, then the values.
    """
    from paddle.base.proto import framework_pb2

    names = sorted(
        var.name
        for var in block.vars
        if var.persistable and var.type.HasField("lod_tensor") and var.name not in ("feed", "fetch")
    )
    data = path.read_bytes()
    sizes = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "FP16": 2, "INT32": 4, "FP32": 4}
    types, at = {}, 0
    try:
        for name in names:
            (levels,) = struct.unpack_from("<Q", data, at + 4)
            at += 12
            for _ in range(levels):
                (length,) = struct.unpack_from("<Q", data, at)
                at += 8 + length
            (length,) = struct.unpack_from("<i", data, at + 4)
            described = framework_pb2.VarType.TensorDesc.FromString(data[at + 8 : at + 8 + length])
            kind = framework_pb2.VarType.Type.Name(described.data_type)
            at += 8 + length + int(np.prod(described.dims)) * sizes.get(kind, 8)
            types[name] = _DTYPES.get(kind, kind.lower())
    except (struct.error, ValueError) as error:
        raise ToolError(f"the weights that opt wrote cannot be read at {name}: {error}") from error
    if at != len(data):
        raise ToolError(f"the weights that opt wrote have {len(data) - at} bytes more than their list says")
    return types
