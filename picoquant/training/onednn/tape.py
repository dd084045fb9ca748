"""A list of primitives that is written once for a shape of images, and run with every batch of it.

Between them may be calls of Python functions. What they read and write has its place in one piece of memory: two things
have the same place where one is no longer read when the other is first written.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from picoquant.training.graphs.openmp import openmp
from picoquant.training.onednn.library import Arg, Kind, Library, OneDnnError, Query, Tag, integers

_SMALL = 256 << 10  # bytes, below which a second thread does not pay
_ALIGNED = 64  # bytes, a cache line


@dataclass(frozen=True)
class Layout:
    """Shape, number format and order of a tensor in memory.

    Attributes:
        address: of oneDNN's memory descriptor, which the tape frees.
        shape: sizes of the axes.
        kind: number format.
        bytes: of a memory.
    """

    address: int
    shape: tuple[int, ...]
    kind: Kind
    bytes: int


@dataclass(eq=False)
class Buffer:
    """A piece of memory.

    Attributes:
        bytes: its size.
        first, last: places in the list of primitives where it is first and last used.
        offset: place in the memory of the tape, once that is planned; None for what lies elsewhere.
        outside: address of what lies elsewhere; may change from run to run.
    """

    bytes: int
    first: int | None = None
    last: int = -1
    offset: int | None = None
    outside: int | None = None
    is_outside: bool = False


@dataclass(frozen=True)
class View:
    """A tensor: a layout in a buffer, which begins so many bytes behind the buffer's start."""

    layout: Layout
    buffer: Buffer
    behind: int = 0


@dataclass
class _Step:
    primitive: int  # 0: a call of the function
    arguments: list[tuple[int, View]]
    call: tuple[int, Any] | None = None  # number and array of arguments, once addresses are known
    function: Callable[..., None] | None = None


@dataclass
class Tape:
    """Primitives, written in the order in which they run.

    Attributes:
        library: oneDNN.
        forward: how many of the primitives are the forward pass; the rest is the backward one.
    """

    library: Library
    forward: int = 0
    _steps: list[_Step] = field(default_factory=list)
    _layouts: list[Layout] = field(default_factory=list)
    _buffers: list[Buffer] = field(default_factory=list)
    _memories: dict[tuple[int, int, int], int] = field(default_factory=dict)  # of what makes a view
    _placed: list[tuple[int, View]] = field(default_factory=list)
    _elsewhere: dict[int, list[int]] = field(default_factory=dict)  # memories of a buffer that lies elsewhere
    _base: int | None = None
    bytes: int = 0

    def layout(self, shape: Sequence[int], kind: Kind, order: Tag | Sequence[int]) -> Layout:
        """A layout by its tag, or by its strides in values."""
        sizes = integers(shape)
        if isinstance(order, Tag):
            address = self.library.made("memory_desc_create_with_tag", len(shape), sizes, kind, order)
        else:
            address = self.library.made(
                "memory_desc_create_with_strides", len(shape), sizes, kind, integers(order)
            )
        return self._noted(address, shape, kind)

    def part(self, whole: Layout, axis: int, first: int, count: int) -> Layout:
        """The layout of `count` places from `first` on along an axis of a larger one."""
        shape, offsets = list(whole.shape), [0] * len(whole.shape)
        shape[axis], offsets[axis] = count, first
        address = self.library.made(
            "memory_desc_create_submemory", whole.address, integers(shape), integers(offsets)
        )
        return self._noted(address, shape, whole.kind)

    def described(self, primitive: int, what: Query, shape: Sequence[int], kind: Kind) -> Layout:
        """The layout that a primitive's descriptor has chosen."""
        return self._noted(self.library.described(primitive, what), shape, kind)

    def _noted(self, address: int, shape: Sequence[int], kind: Kind) -> Layout:
        found = Layout(address, tuple(shape), kind, self.library.bytes_of(address))
        self._layouts.append(found)
        return found

    def new(self, layout: Layout, behind: int = 0) -> View:
        """A tensor in the tape's memory, with so many bytes of its buffer before it."""
        buffer = Buffer(layout.bytes + behind)
        self._buffers.append(buffer)
        return View(layout, buffer, behind)

    def outside(self, layout: Layout, address: int | None = None) -> View:
        """A tensor that lies elsewhere."""
        return View(layout, Buffer(layout.bytes, outside=address, is_outside=True))

    def add(self, primitive: int, arguments: Mapping[Any, View]) -> None:
        """Append the primitive of a descriptor, which is freed."""
        made = self.library.made("primitive", primitive)
        given = list(arguments.items())
        scratch = self.described(primitive, Query.SCRATCH, (), Kind.F32)
        if scratch.bytes:
            given.append((int(Arg.SCRATCH), self.new(scratch)))
        self.library.destroy("primitive_desc", primitive)
        self._append(_Step(made, given))

    def add_call(self, function: Callable[..., None], views: Iterable[View]) -> None:
        """Append the call of a function with tensors `[C]` in 32-bit floats as arrays, which it may change."""
        self._append(_Step(0, [(0, view) for view in views], function=function))

    def _append(self, step: _Step) -> None:
        place = len(self._steps)
        for _, view in step.arguments:
            buffer = view.buffer
            buffer.first = place if buffer.first is None else buffer.first
            buffer.last = place
        self._steps.append(step)

    def reorder(self, source: View, target: View) -> None:
        """Copy a tensor into another of its shape, converting layout and number format."""
        library = self.library
        with one_thread(min(source.layout.bytes, target.layout.bytes)):
            made = library.made("reorder_primitive_desc", source.layout.address, library.engine,
                                target.layout.address, library.engine, library.attributes)  # fmt: skip
            self.add(made, {Arg.SRC: source, Arg.DST: target})

    def in_layout(self, source: View, layout: Layout) -> View:
        """The tensor itself where it has the layout, else a copy that has it."""
        if self.library.equal(source.layout.address, layout.address):
            return source
        copy = self.new(layout)
        self.reorder(source, copy)
        return copy

    def end_of_forward(self) -> None:
        """What is added from here on is the backward pass."""
        self.forward = len(self._steps)

    def keep(self, views: Iterable[View]) -> None:
        """Keep tensors to the end of the tape, for what is read when it has run."""
        for view in views:
            view.buffer.last = len(self._steps)

    def plan(self) -> None:
        """Give every buffer its place."""
        offsets = _offsets(self._buffers)
        for buffer, offset in offsets.items():
            buffer.offset = offset
            self.bytes = max(self.bytes, offset + buffer.bytes)

    def run(self, base: int, first: int, end: int) -> None:
        """Run primitives `first` to `end - 1`. Raises: `OneDnnError`, and what a called function raises.

        Args:
            base: address of `bytes` bytes of memory, the same for a forward pass and its backward pass.
            first, end: places.
        """
        self._place(base)
        execute, stream = self.library.execute, self.library.stream
        for step in self._steps[first:end]:
            if step.function is not None:
                step.function(*(self._array(view) for _, view in step.arguments))
                continue
            count, arguments = step.call or self._prepared(step)
            status = execute(step.primitive, stream, count, arguments)
            if status:
                raise OneDnnError(f"oneDNN: a primitive failed with status {status}")

    def forward_pass(self, base: int) -> None:
        """Run the forward pass."""
        self.run(base, 0, self.forward)

    def backward_pass(self, base: int) -> None:
        """Run the backward pass."""
        self.run(base, self.forward, len(self._steps))

    def move(self, view: View, address: int) -> None:
        """Let a tensor that lies elsewhere lie at an address."""
        buffer = view.buffer
        if buffer.outside == address:
            return
        buffer.outside = address
        for memory in self._elsewhere.get(id(buffer), ()):
            self.library.call("memory_set_data_handle", memory, address)

    def address_of(self, view: View, base: int) -> int:
        """Where a tensor begins."""
        buffer = view.buffer
        return int(buffer.outside or 0) if buffer.is_outside else base + int(buffer.offset or 0) + view.behind

    def _place(self, base: int) -> None:
        if base == self._base:
            return
        self._base = base
        for memory, view in self._placed:
            self.library.call("memory_set_data_handle", memory, self.address_of(view, base))

    def _prepared(self, step: _Step) -> tuple[int, Any]:
        array = (_Argument * len(step.arguments))()
        for place, (what, view) in enumerate(step.arguments):
            array[place].what, array[place].memory = int(what), self._memory(view)
        step.call = (len(step.arguments), array)
        return step.call

    def _array(self, view: View) -> np.ndarray:
        address = self.address_of(view, int(self._base or 0))
        memory = (ctypes.c_float * view.layout.shape[0]).from_address(address)
        return np.frombuffer(memoryview(memory), np.float32)

    def _memory(self, view: View) -> int:
        key = (view.layout.address, id(view.buffer), view.behind)
        found = self._memories.get(key)
        if found is None:
            address = self.address_of(view, int(self._base or 0))
            found = self.library.made("memory", view.layout.address, self.library.engine, address)
            self._memories[key] = found
            if view.buffer.is_outside:
                self._elsewhere.setdefault(id(view.buffer), []).append(found)
            else:
                self._placed.append((found, view))
        return found

    def __del__(self) -> None:
        for step in self._steps:
            if step.primitive:
                self.library.destroy("primitive", step.primitive)
        for memory in self._memories.values():
            self.library.destroy("memory", memory)
        for layout in self._layouts:
            self.library.destroy("memory_desc", layout.address)


@contextmanager
def one_thread(size: int) -> Iterator[None]:
    """Primitives made within the block, for so many bytes, run on one thread where waking another takes longer."""
    library = openmp() if size < _SMALL else None
    if library is None:
        yield
        return
    before = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(before)


class _Argument(ctypes.Structure):
    """dnnl_exec_arg_t."""

    _fields_ = [("what", ctypes.c_int), ("memory", ctypes.c_void_p)]


def _offsets(buffers: Sequence[Buffer]) -> dict[Buffer, int]:
    """Places of buffers, such that those used at the same time do not overlap: the largest first, each the lowest."""
    used = [buffer for buffer in buffers if buffer.first is not None and buffer.bytes]
    placed: list[tuple[int, int, Buffer]] = []  # begin, end, buffer
    found: dict[Buffer, int] = {}
    for buffer in sorted(used, key=lambda one: -one.bytes):
        size = -(-buffer.bytes // _ALIGNED) * _ALIGNED
        begin = 0
        for other_begin, other_end, other in placed:
            if other.last < int(buffer.first or 0) or buffer.last < int(other.first or 0):
                continue
            if other_begin >= begin + size:
                break
            begin = max(begin, other_end)
        found[buffer] = begin
        placed.append((begin, begin + size, buffer))
        placed.sort(key=lambda one: one[0])
    return found


class Arena:
    """The memory of several tapes, of which one runs at a time."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def at_least(self, size: int) -> int:
        """The address of so many bytes, aligned; what was in them may be lost where they are more than before."""
        if self._memory.size < size + _ALIGNED:
            self._memory = np.empty(0, np.uint8)
            self._memory = np.empty(size + _ALIGNED, np.uint8)
        address = int(self._memory.ctypes.data)
        return -(-address // _ALIGNED) * _ALIGNED
