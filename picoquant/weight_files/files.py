"""Weights by name in a file: `.pdparams` (a pickle, as paddle saves it), `.safetensors`, `.npz` or `.pth` (torch's).

Names of mmdet's PicoDet become PaddleDetection's when read, and a `.pth` is written with mmdet's. When reading,
the format is detected from a file's first bytes; when writing, its suffix selects it.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np

from picoquant.errors import NOT_SUPPORTED, UserError, WeightsError, reason_of
from picoquant.storage.files import whole_file
from picoquant.weight_files.mmdet import from_mmdet, to_mmdet
from picoquant.weight_files.pickles import RefusedError, restricted_load
from picoquant.weight_files.torch_zip import BEFORE_ZIP, is_torch_zip, read_torch_zip, write_torch_zip

State = dict[str, np.ndarray]

MAX_BYTES = 1 << 29  # the largest PicoDet has 25 MB of weights
_MOST_ENTRIES = 100_000
_LONGEST_NAME = 300
_LONGEST_HEADER = 10 << 20
_NAME_TABLE = "StructuredToParameterName@@"  # paddle's own table beside the parameters
_COUNTER = ".num_batches_tracked"  # torch's batch-norms count; nothing is computed with it
_WRAPPERS = ("model", "state_dict")  # keys of the parameters in checkpoints of other tools


def read_weights(path: Union[str, Path]) -> State:
    """Read the arrays of a file of weights, by name, as float32; all else in it is ignored.

    Raises: `WeightsError` when it is missing, damaged, holds no weights, or is a pickle that would run code.
    """
    data = _bytes(path)
    content, pickled = _content(path, data), _format(path, data)[1] is restricted_load
    for _ in range(4):  # levels of wrappers
        if not isinstance(content, Mapping):
            break
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, no weights by name")
    state: State = {}
    converted: dict[int, np.ndarray] = {}  # by id: an array under many names is converted once
    for name, value in content.items():
        text = str(name)
        if name == _NAME_TABLE or text.endswith(_COUNTER):
            continue
        if len(text) > _LONGEST_NAME:
            raise WeightsError(f"{path}: has an array with a name of {len(text)} characters, so no weights")
        if id(value) not in converted:
            converted[id(value)] = _array(value, f"{path}: {text}", pickled)
        state[text] = converted[id(value)]
    if not state:
        raise WeightsError(f"{path}: holds no weights")
    return from_mmdet(state)


def read_arrays(path: Union[str, Path]) -> State:
    """Read the arrays of an `.npz` file with their own types, as safely as weights.

    Raises: `WeightsError` when it is missing, damaged or not an `.npz` file.
    """
    data = _bytes(path)
    form, read = _format(path, data)
    if read is not _read_npz:
        raise WeightsError(f"{path}: no .npz file, or a damaged one (it looks like {form})")
    return _content(path, data)


def write_weights(state: Mapping[str, Any], path: Union[str, Path]) -> None:
    """Write arrays by name to a file, atomically; the suffix of `path` selects the format.

    Raises: `UserError` for another suffix than `.pdparams`, `.safetensors`, `.npz` and `.pth`, for a `.pth` of a
        network that mmdet has no names for, or when the disk cannot be written.
    """
    path = Path(path)
    writers = {
        ".pdparams": _write_pickle, ".safetensors": _write_safetensors, ".npz": _write_npz, ".pth": _write_pth,
    }  # fmt: skip
    if path.suffix not in writers:
        raise UserError(f"{path}: weights are written as {', '.join(writers)}; give the file such a name")
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in state.items()}
    with whole_file(path, "wb") as stream:
        writers[path.suffix](arrays, stream)


def halved(state: Mapping[str, np.ndarray], source: Union[str, Path]) -> State:
    """Weights rounded to float16: half the size, 11 significant bits.

    Args:
        state: arrays by name.
        source: the file they are of, for messages.

    Raises: `WeightsError` when a number is beyond float16.
    """
    with np.errstate(over="ignore"):
        half = {name: np.asarray(value).astype(np.float16) for name, value in state.items()}
    for name, value in half.items():
        if np.isinf(value).any() and not np.isinf(state[name]).any():
            raise WeightsError(
                f"{source}: {name} holds {float(np.abs(state[name]).max()):g}, more than 16 bits can (65504); "
                "convert without --half"
            )
    return half


def _write_pickle(arrays: State, stream: Any) -> None:
    pickle.dump(arrays, stream, protocol=4)


def _write_pth(arrays: State, stream: Any) -> None:
    write_torch_zip(to_mmdet(arrays), stream)


def _write_safetensors(arrays: State, stream: Any) -> None:
    from safetensors.numpy import save

    stream.write(save(arrays))


def _write_npz(arrays: State, stream: Any) -> None:
    # np.savez takes names as keyword arguments, so an array named "file" would be an error.
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, value, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def _bytes(path: Union[str, Path]) -> bytes:
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise WeightsError(f"{path}: {size >> 20} MiB are more than any PicoDet's weights")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"no such file: {path}; name a file of trained weights") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read{reason_of(error)}") from error


def _content(path: Union[str, Path], data: bytes) -> Any:
    """The content of a file in the format detected; `path` is for messages."""
    form, read = _format(path, data)
    try:
        return read(data)
    except WeightsError:
        raise
    except RefusedError as error:
        raise WeightsError(f"{path}: refused: it is not only weights, it asks {error}") from error
    except Exception as error:  # damaged bytes can raise any exception
        raise WeightsError(f"{path}: no {form} file, or a damaged one{reason_of(error)}") from error


def _format(path: Union[str, Path], data: bytes) -> tuple[str, Callable[[bytes], Any]]:
    """The format indicated by the first bytes, and the function that reads it."""
    if data.startswith(BEFORE_ZIP):
        raise WeightsError(
            f"{path}: saved by torch in its form of before 1.6; load and save it once more with a torch of today; "
            f"{NOT_SUPPORTED}"
        )
    if is_torch_zip(data):
        return ".pth", read_torch_zip
    if data.startswith(b"PK"):
        return ".npz", _read_npz
    # The length of a header in eight bytes, then JSON. The same bytes of a pickle are no plausible length.
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= min(len(data), _LONGEST_HEADER):
        return ".safetensors", _read_safetensors
    return ".pdparams", restricted_load


def _read_safetensors(data: bytes) -> State:
    from safetensors.numpy import load

    return load(data)


def _read_npz(data: bytes) -> State:
    """Read the arrays of a zip of `.npy` files.

    Raises: `ValueError` for too many entries, too many bytes, or an entry whose size is not its header's.
    """
    if data.count(b"PK\x01\x02") > _MOST_ENTRIES:
        raise ValueError("it has more entries than any PicoDet has weights")
    arrays: State = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise ValueError("its arrays unpack to more than any PicoDet's weights")
        for entry in entries:
            with archive.open(entry) as stream:
                content = stream.read(entry.file_size)
            arrays[entry.filename[: -len(".npy")] if entry.filename.endswith(".npy") else entry.filename] = (
                _npy(content, entry.filename)
            )
    return arrays


def _npy(content: bytes, name: str) -> np.ndarray:
    """The array of a `.npy` file; NumPy's own reader would allocate what the header claims."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = headers[version](stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{name} is no array of numbers, or cut short")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def _array(value: Any, where: str, pickled: bool) -> np.ndarray:
    """A parameter as float32; paddle saves some as (name, array), and bfloat16 as uint16, a type that it has not."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    if pickled and isinstance(value, np.ndarray) and value.dtype == np.uint16:
        # The upper half of a float32. A big-endian file's bytes are put in order by the conversion.
        return (value.astype(np.uint32) << 16).view(np.float32)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise WeightsError(f"{where} is a {kind}, no array of floating-point numbers")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which loading rejects
        return value.astype(np.float32)
