"""Torch's files (`.pth`, `.pt`), since its release 1.6: a zip of one pickle and the bytes of the tensors.

No code of a file is run and torch is not needed: `pickles.Machine` reads the pickle, with the few callables that
tensors are made by replaced by functions here. Source of the form: `torch.serialization`.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from picoquant.weight_files.pickles import Machine, RefusedError

BEFORE_ZIP = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's first pickle, a number, before it wrote zips
)
_PICKLE = "data.pkl"
_MAX_BYTES = 1 << 29
_MOST_DIMENSIONS = 8
_TYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


def is_torch_zip(data: bytes) -> bool:
    """Whether a file is one of torch's: a zip that holds `…/data.pkl`."""
    return data.startswith(b"PK") and f"/{_PICKLE}".encode() in data


def read_torch_zip(data: bytes) -> Any:
    """The content of a file: containers, texts, numbers, and tensors as read-only arrays of any layout.

    Raises: `RefusedError` for a file that asks for anything else; `ValueError` or another exception for a damaged one.
    """
    entries = _entries(data)
    names = [name for name in entries if name.endswith(f"/{_PICKLE}")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} files {_PICKLE}")
    folder = names[0][: -len(_PICKLE)]
    return _TorchMachine(entries[names[0]], folder, entries, len(data)).load()


def write_torch_zip(arrays: Mapping[str, np.ndarray], stream: Any) -> None:
    """Write arrays as `torch.save` writes a dict of tensors, float16 as half, others as float32.

    The same arrays are the same bytes.

    Args:
        arrays: by name.
        stream: open for writing bytes.
    """
    values = {
        name: np.ascontiguousarray(value, "<f2" if value.dtype == np.float16 else "<f4").reshape(value.shape)
        for name, value in arrays.items()
    }
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"archive/{_PICKLE}"), _pickled(values))
        for number, value in enumerate(values.values()):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{number}"), value.tobytes())
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")


class _Storage:
    """The bytes of a tensor, as numbers `[K]`."""

    def __init__(self, numbers: np.ndarray, brain: bool) -> None:
        self.numbers, self.brain = numbers, brain


class _TorchMachine(Machine):
    """Reads torch's pickle: tensors by the zip's entries, everything else as Paddle's."""

    instructions = (*Machine.instructions, "BINPERSID")

    def __init__(self, data: bytes, folder: str, entries: Mapping[str, bytes], size: int) -> None:
        self._folder, self._entries = folder, entries
        self._left = 2 * size + (1 << 20)  # bytes that tensors may have together
        self._types: dict[int, str] = {}
        more: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda value, *_: value,
        }
        self._kinds = {name: _refuse_call(name) for name in _TYPES}
        more.update({("torch", name): kind for name, kind in self._kinds.items()})
        super().__init__(data, more)

    def persistent_load(self, pid: Any) -> _Storage:
        """The numbers of a tensor that the pickle names.

        Raises: `ValueError` for what is not in the zip, or has another size there.
        """
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise RefusedError("for something else than a tensor's numbers")
        _, kind, key, _, count = pid
        name = next((name for name, known in self._kinds.items() if known is kind), None)
        if name is None or not isinstance(key, str) or not _whole(count):
            raise RefusedError("for numbers of an unknown kind")
        held = self._entries.get(f"{self._folder}data/{key}")
        if held is None or len(held) != count * np.dtype(_TYPES[name]).itemsize:
            raise ValueError(f"data/{key} is not there, or cut short")
        return _Storage(np.frombuffer(held, _TYPES[name]), name == "BFloat16Storage")

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        sides = (
            (offset, *shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else (None,)
        )
        if not isinstance(storage, _Storage) or not all(map(_whole, sides)) or len(shape) != len(strides):
            raise ValueError("a tensor without numbers, shape or strides")
        if len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor of {len(shape)} dimensions")
        count = math.prod(shape)
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides)) if count else 0
        if last >= max(1, len(storage.numbers)) or (count and not len(storage.numbers)):
            raise ValueError(f"a tensor of shape {shape} beyond its numbers")
        numbers = storage.numbers
        self._left -= count * max(4, numbers.itemsize)
        if self._left < 0:
            raise RefusedError("to be read as more than it holds")
        item = numbers.itemsize
        start = numbers[offset:] if count else numbers[:0]
        view = np.ndarray(
            shape, numbers.dtype, start.tobytes() if count else b"", 0, [item * step for step in strides]
        )
        if storage.brain:
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view

    def _build(self) -> None:
        """A state dict's `_metadata` is passed by; all else as Paddle's."""
        if type(self.stack[-2]) is dict and isinstance(self.stack[-1], dict):
            self.stack.pop()
            return
        super()._build()


def _refuse_call(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> None:
        raise RefusedError(f"for torch.{name} to be called")

    return refuse


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _entries(data: bytes) -> dict[str, bytes]:
    """The files in a zip by name, unpacked.

    Raises: `ValueError` for more bytes than any PicoDet has.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        listed = archive.infolist()
        if sum(entry.file_size for entry in listed) > _MAX_BYTES:
            raise ValueError("its tensors unpack to more than any PicoDet's weights")
        found = {}
        for entry in listed:
            with archive.open(entry) as stream:
                found[entry.filename] = stream.read(entry.file_size)
    return found


def _pickled(values: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a dict of tensors: instructions of protocol 2, as torch is not there to be named by pickle."""
    parts = [b"\x80\x02", b"}", b"("]
    for number, (name, value) in enumerate(values.items()):
        kind = b"ctorch\nHalfStorage\n" if value.itemsize == 2 else b"ctorch\nFloatStorage\n"
        strides = [step // value.itemsize for step in value.strides]
        parts += [
            _text(name), b"ctorch._utils\n_rebuild_tensor_v2\n", b"(",
            b"(", _text("storage"), kind, _text(str(number)), _text("cpu"), _number(value.size),
            b"tQ", _number(0), _tuple(value.shape), _tuple(strides), b"\x89", b"ccollections\nOrderedDict\n)R", b"tR",
        ]  # fmt: skip
    return b"".join([*parts, b"u", pickle.STOP])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _number(value: int) -> bytes:
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def _tuple(values: Any) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
