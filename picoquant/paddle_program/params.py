"""Reads and writes `.pdiparams` files, the stored values of a Paddle program, without running Paddle."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.graph import FEED, FETCH
from picoquant.utils.paddle_version.differences import holds_tensor


def read_params(program: Any, path: Path) -> dict[str, np.ndarray]:
    """Read the values in a `.pdiparams` file.

    Args:
        program: the `ProgramDesc` message that the file belongs to; the file itself holds no names.
        path: the file.

    Returns: the values by name of the variable.

    Raises: `WeightsError` if the file does not belong to the program or is damaged.
    """
    names = stored_variables(program)
    data = memoryview(Path(path).read_bytes())
    values, offset = {}, 0
    for name in names:
        try:
            values[name], offset = _read_tensor(data, offset)
        except (ValueError, IndexError, KeyError) as error:
            raise WeightsError(
                f"{path} ends or breaks at {name}: it does not belong to this model"
            ) from error
    if offset != len(data):
        raise WeightsError(f"{path} holds more than the model has: it does not belong to this model")
    return values


def stored_variables(program: Any) -> list[str]:
    """Names of the stored variables of a `ProgramDesc` message, in the order of its `.pdiparams` file."""
    return sorted(
        variable.name
        for variable in program.blocks[0].vars
        if variable.persistable and holds_tensor(variable.type) and variable.name not in (FEED, FETCH)
    )


# The numpy type of each `VarType.Type` (framework.proto) that a stored value can have.
_TYPES = {0: "?", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "u1", 21: "i1"}


def _read_tensor(data: memoryview, offset: int) -> tuple[np.ndarray, int]:
    """Read one tensor in the format of `save_combine`; returns it and the offset of the byte after it.

    The format: version (4 bytes), number of LoD levels (8 bytes; 0 for weights), version (4 bytes), length of
    the description (4 bytes), description, values. Source: Paddle's `SerializeToStream` in lod_tensor.cc.

    Raises: `ValueError`, `IndexError` or `KeyError` if there is no such tensor.
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    version, lod, version2, length = np.frombuffer(
        data[offset : offset + 20], np.dtype([("v", "<u4"), ("lod", "<u8"), ("w", "<u4"), ("n", "<i4")])
    )[0]
    if version or version2 or lod or length < 0:
        raise ValueError("no tensor")
    offset += 20
    description = framework_pb2.VarType.TensorDesc()
    try:
        description.ParseFromString(bytes(data[offset : offset + int(length)]))
    except DecodeError as error:
        raise ValueError("no description") from error
    offset += int(length)
    dtype = np.dtype(_TYPES[description.data_type])
    count = int(np.prod(description.dims, dtype=np.int64))
    end = offset + count * dtype.itemsize
    if end > len(data):
        raise ValueError("too short")
    return np.frombuffer(data[offset:end], dtype).reshape(description.dims), end


def write_params(program: Any, values: Mapping[str, np.ndarray], out: Path | BinaryIO) -> None:
    """Write a `.pdiparams` file, the reverse of `read_params`.

    Args:
        program: the `ProgramDesc` message that the file belongs to.
        values: arrays by name of the variable, of the types in `_TYPES`.
        out: a path, or a binary stream that is open for writing.
    """
    from paddle.base.proto import framework_pb2

    type_numbers = {np.dtype(dtype): number for number, dtype in _TYPES.items()}
    with open(out, "wb") if isinstance(out, Path) else nullcontext(out) as stream:
        for name in stored_variables(program):
            value = np.ascontiguousarray(values[name])
            description = framework_pb2.VarType.TensorDesc()
            description.data_type = type_numbers[value.dtype]
            description.dims.extend(value.shape)
            text = description.SerializeToString()
            stream.write(bytes(16) + np.int32(len(text)).tobytes() + text + value.tobytes())
