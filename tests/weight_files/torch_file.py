"""A `.pth` as torch writes it, made without torch: the pickle by Python's own pickler, the zip around it."""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
import zipfile
from contextlib import contextmanager

import numpy as np


@contextmanager
def torch_by_name():
    """Modules `torch` and `torch._utils` with the names that torch's pickles ask for, for the time of writing."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "HalfStorage", "DoubleStorage", "LongStorage", "BFloat16Storage"):
        kind = type(name, (), {})
        kind.__module__, kind.__qualname__ = "torch", name
        setattr(torch, name, kind)
    torch._utils = utils
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Tensor:
    """Numbers `[K]` of one storage, and the shape, strides and offset of what is seen of them."""

    def __init__(self, numbers, kind="FloatStorage", shape=None, strides=None, offset=0, count=None):
        self.numbers, self.kind, self.offset = np.ascontiguousarray(numbers), kind, offset
        self.shape = tuple(self.numbers.shape) if shape is None else shape
        plain = [step // self.numbers.itemsize for step in self.numbers.strides]
        self.strides = tuple(plain) if strides is None else strides
        self.count = self.numbers.size if count is None else count


class _Pickler(pickle.Pickler):
    def __init__(self, stream, torch):
        super().__init__(stream, protocol=2)
        self.torch, self.kept = torch, []

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        self.kept.append(value.numbers.tobytes())
        storage = _Storage(
            ("storage", getattr(self.torch, value.kind), str(len(self.kept) - 1), "cpu", value.count)
        )
        more = (value.offset, value.shape, value.strides, False, collections.OrderedDict())
        return self.torch._utils._rebuild_tensor_v2, (storage, *more)

    def persistent_id(self, value):
        return value.named if isinstance(value, _Storage) else None


class _Storage:
    def __init__(self, named):
        self.named = named


class StateDict(collections.OrderedDict):
    """A dict with an attribute `_metadata`, as modules' are."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"_metadata": {"": {"version": 1}}}, None, iter(self.items())


def write_pth(path, content, folder="model_epoch_300", leave_out=()):
    """Write a `.pth`; `Tensor` objects in `content` are its tensors."""
    stream = io.BytesIO()
    with torch_by_name() as torch:
        pickler = _Pickler(stream, torch)
        pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", stream.getvalue())
        for number, kept in enumerate(pickler.kept):
            if str(number) not in leave_out:
                archive.writestr(f"{folder}/data/{number}", kept)
        archive.writestr(f"{folder}/version", "3\n")
    return path
