"""`.pdiparams`: stored values of a Paddle program, read and written without Paddle."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.graph import FEED, FETCH


def read_params(program: Any, path: Path) -> dict[str, np.ndarray]:
    """The values in a `.pdiparams` file, by variable.

    Args:
        program: the `ProgramDesc` that belongs to it: the file has no names, only their order.

    Raises: `WeightsError` when the file does not belong to the program.
    """
    names = stored_variables(program)
    data = memoryview(Path(path).read_bytes())
    values, place = {}, 0
    for name in names:
        try:
            values[name], place = _read_tensor(data, place)
        except (ValueError, IndexError, KeyError) as error:
            raise WeightsError(
                f"{path} ends or breaks at {name}: it does not belong to this model"
            ) from error
    if place != len(data):
        raise WeightsError(f"{path} holds more than the model has: it does not belong to this model")
    return values


def stored_variables(program: Any) -> list[str]:
    """Names of the variables that are stored with a program, in the order of its `.pdiparams`."""
    return sorted(
        variable.name
        for variable in program.blocks[0].vars
        if variable.persistable
        and variable.type.HasField("lod_tensor")
        and variable.name not in (FEED, FETCH)
    )


# numpy's type for each `VarType.Type` that weights have (framework.proto).
_TYPES = {0: "?", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "u1", 21: "i1"}


def _read_tensor(data: memoryview, place: int) -> tuple[np.ndarray, int]:
    """One tensor as `save_combine` writes it, and the place behind it.

    Version (4 bytes), LoD levels (8 bytes; weights have none), version, length of the description
    (4 bytes), description, values. Source: paddle's `SerializeToStream` in lod_tensor.cc.
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    version, lod, version2, length = np.frombuffer(
        data[place : place + 20], np.dtype([("v", "<u4"), ("lod", "<u8"), ("w", "<u4"), ("n", "<i4")])
    )[0]
    if version or version2 or lod or length < 0:
        raise ValueError("no tensor")
    place += 20
    description = framework_pb2.VarType.TensorDesc()
    try:
        description.ParseFromString(bytes(data[place : place + int(length)]))
    except DecodeError as error:
        raise ValueError("no description") from error
    place += int(length)
    kind = np.dtype(_TYPES[description.data_type])
    count = int(np.prod(description.dims, dtype=np.int64))
    end = place + count * kind.itemsize
    if end > len(data):
        raise ValueError("too short")
    return np.frombuffer(data[place:end], kind).reshape(description.dims), end


def write_params(program: Any, values: Mapping[str, np.ndarray], out: Path | BinaryIO) -> None:
    """Write a `.pdiparams` file, the reverse of `read_params`.

    Args:
        program: the `ProgramDesc` that it belongs to.
        values: by variable, each of a type that weights have.
        out: a path, or a stream that is open for writing.
    """
    from paddle.base.proto import framework_pb2

    kinds = {np.dtype(kind): number for number, kind in _TYPES.items()}
    with open(out, "wb") if isinstance(out, Path) else nullcontext(out) as stream:
        for name in stored_variables(program):
            value = np.ascontiguousarray(values[name])
            description = framework_pb2.VarType.TensorDesc()
            description.data_type = kinds[value.dtype]
            description.dims.extend(value.shape)
            text = description.SerializeToString()
            stream.write(bytes(16) + np.int32(len(text)).tobytes() + text + value.tobytes())
