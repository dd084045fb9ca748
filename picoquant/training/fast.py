"""Faster training on CPU: detectors are oneDNN's, directly or as static graphs whose convolutions are.

What oneDNN's primitives can compute without Paddle they do (`onednn`). For the rest: paddle 2.6 has no way to choose
oneDNN's kernels in dygraph. In a static graph the attribute `use_mkldnn` of an operator, which its gradient inherits,
does. So backbone, neck and the head's convolutions are traced by `paddle.jit.to_static`; loss and assignment stay in
dygraph. Three more causes of slowness are removed: relu6's gradient kernel, which takes longer than the convolutions;
the weight gradients for which oneDNN has no fast kernel (`depthwise`); and the return of memory to the system after
every operator, because the system has to clear it before the next use.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MethodType
from typing import Any, Callable

import numpy as np
import paddle
from paddle import nn
from paddle.base import core

from picoquant.training.graphs.kept_memory import KeptMemory
from picoquant.training.graphs.layouts import channels_last_available
from picoquant.training.graphs.malloc import set_malloc, trim
from picoquant.training.graphs.openmp import openmp
from picoquant.training.graphs.rewrite import ChannelsLast, Rewrite
from picoquant.training.graphs.traced_graph import TracedGraph
from picoquant.training.graphs.tracing import any_size, program_of
from picoquant.training.joint_batch_norm.rewrite import JointRewrite
from picoquant.training.joint_batch_norm.statistics import Processes
from picoquant.training.onednn.engine import engine_of
from picoquant.training.onednn.graph import UnsupportedError
from picoquant.training.onednn.library import Kind
from picoquant.utils.device import available_cpus

LOG = logging.getLogger("picoquant")

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # of glibc's malloc.h
_TOP_PAD = 64 << 20
_LARGE, _MANY = 256 << 10, 1 << 16  # bytes of a piece of memory with pages of its own; pieces
_SERIAL = "FLAGS_new_executor_serial_run"


def fast_convolutions_available() -> bool:
    """Whether this paddle computes on CPU and has oneDNN."""
    return paddle.get_device() == "cpu" and core.is_compiled_with_mkldnn()


@contextmanager
def tuned_cpu() -> Iterator[None]:
    """Within the block operators run one at a time, on all cores, and freed memory stays in the process.

    The processes of a group divide the cores among them. Only the order of execution is restored after the
    block; the number of threads and the settings of memory and waiting threads remain.
    """
    before = paddle.get_flags(_SERIAL)
    # Operators that run concurrently would compete for the cores and compile every kernel once per thread.
    paddle.set_flags({_SERIAL: True})
    core.set_num_threads(available_cpus())
    _no_spinning()
    _keep_memory()
    try:
        yield
    finally:
        paddle.set_flags(before)


def operators_run_in_caller() -> bool:
    """Whether operators of graphs run one at a time, in the thread that runs the graph, as within `tuned_cpu`."""
    return bool(paddle.get_flags(_SERIAL)[_SERIAL])


def _no_spinning() -> None:
    """Let waiting OpenMP threads release their core at once, to the processes that read images."""
    library = openmp()
    if library is not None:
        library.kmp_set_blocktime(0)


def _keep_memory() -> None:
    """Set glibc's malloc to keep freed memory in the process; without glibc, do nothing."""
    set_malloc((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD))


@contextmanager
def memory_that_stays() -> Iterator[None]:
    """Within the block, which must be inside a `tuned_cpu` block, large pieces of memory have pages of their own.

    For the first run of a graph: what it makes and keeps would lie between what comes and goes with each run, and keep
    apart what could be one piece. Behind the block the system gets back what is free.
    """
    set_malloc((_M_MMAP_THRESHOLD, _LARGE), (_M_MMAP_MAX, _MANY))
    try:
        yield
    finally:
        set_malloc((_M_MMAP_MAX, 0))
        trim()


class FastLayers:
    """The layers of a detector as static graphs, switched on for training steps only.

    Args:
        model: a `PicoDet`.
        rewrite: makes what changes a graph; None: oneDNN computes without Paddle what it knows all operators of
            (`onednn`), and the graphs of the rest are `JointRewrite` with a group, `ChannelsLast` where this CPU has
            it, else `Rewrite`.
        precision: number format of the feature maps that oneDNN computes without Paddle.
        group: all processes, where batch norms are over the images of all; None: over those of this process.
    """

    def __init__(
        self,
        model: nn.Layer,
        rewrite: Callable[[], Rewrite] | None = None,
        precision: Kind = Kind.F32,
        group: Processes | None = None,
    ) -> None:
        parts = [(model.backbone, "forward"), (model.neck, "forward"), (model.head, "predicted")]
        whole = [] if rewrite else [(model, "predicted"), (model, "pyramid")]
        self._parts = [
            *((layer, name, _Whole(layer, name, None, precision, group, self.off)) for layer, name in whole),
            *(
                (layer, name, _Traced(layer, name, rewrite, precision, group, self.off))
                for layer, name in parts
            ),
        ]
        self._kept = KeptMemory()

    def before_step(self, shape: Sequence[int]) -> None:
        """Make room for a step with images `[N, C, H, W]` of this shape, see `KeptMemory`."""
        self._kept.before_step(shape)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within the block the model's `loss` runs through the static graphs."""
        for layer, name, traced in self._parts:
            setattr(layer, name, traced)
        try:
            yield
        finally:
            for layer, name, _ in self._parts:
                delattr(layer, name)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block, which must be inside an `on` block, the layers run in dygraph again."""
        for layer, name, _ in self._parts:
            delattr(layer, name)
        try:
            yield
        finally:
            for layer, name, traced in self._parts:
                setattr(layer, name, traced)


class _Traced:
    """A method of a layer, traced once for images of any size and number.

    Args:
        layer, name: whose method it is, and its name.
        rewrite, group: as of `FastLayers`.
        precision: of what oneDNN computes without Paddle.
        untraced: within it no method is replaced; what is traced must not be what was traced before.
    """

    def __init__(
        self,
        layer: nn.Layer,
        name: str,
        rewrite: Callable[[], Rewrite] | None,
        precision: Kind,
        group: Processes | None,
        untraced: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._layer, self._method, self._rewrite = layer, getattr(layer, name), rewrite
        self._precision, self._group, self._untraced = precision, group, untraced
        self._static: Callable[..., Any] | None = None

    def __call__(self, maps: Any) -> Any:
        if self._static is None:
            with self._untraced():
                self._static = self._trace(maps)
        return self._static(maps)

    def _trace(self, maps: Any) -> Callable[..., Any]:
        if self._rewrite is not None:
            return traced(self._method, (maps,), [any_size(maps)], self._rewrite())
        program, written = program_of(self._method, (maps,), [any_size(maps)])
        try:
            return self._engine(program)
        except UnsupportedError as error:
            self._say(error)
        if self._group is not None:
            return _rewritten(program, written, JointRewrite(self._group))
        return _rewritten(program, written, ChannelsLast() if channels_last_available() else Rewrite())

    def _engine(self, program: Any) -> Callable[[Any], Any]:
        """The engine of a program. Raises: `UnsupportedError` in all processes of the group where it has to in one."""
        found, reason = None, UnsupportedError("no engine in another process")
        try:
            found = engine_of(program, self._layer, self._precision, self._group)
        except UnsupportedError as error:
            reason = error
        # Otherwise they would not send the same messages: the engine tells of several batch norms in one.
        if self._group is not None and self._group.rows(np.array([found is None], float)).any():
            found = None
        if found is None:
            raise reason
        return found

    def _say(self, error: UnsupportedError) -> None:
        name = type(self._layer).__name__
        if self._precision is not Kind.F32:
            LOG.warning("train: %s is computed in 32-bit floats: it has %s", name, error)
        else:
            LOG.debug("train: %s is computed by Paddle: it has %s", name, error)


class _Whole(_Traced):
    """A method that calls those of several parts: where oneDNN does not know all of it, it does so."""

    def _trace(self, maps: Any) -> Callable[..., Any]:
        try:
            return self._engine(program_of(self._method, (maps,), [any_size(maps)])[0])
        except UnsupportedError:
            return self._method


def traced(
    method: MethodType, inputs: Sequence[Any], sizes: Sequence[Any], rewrite: Rewrite | None = None
) -> TracedGraph:
    """A method of a layer as a static graph that runs, with its gradients, on oneDNN's convolutions.

    Args:
        method, inputs, sizes: as of `program_of`.
        rewrite: changes the graph; None: as all graphs are changed.
    """
    program, written = program_of(method, inputs, sizes)
    return _rewritten(program, written, rewrite or Rewrite())


def _rewritten(program: Any, written: Any, rewrite: Rewrite) -> TracedGraph:
    rewrite.returned = tuple(value.name for value in program._outputs.tolist() if hasattr(value, "name"))
    program.set_hooker(rewrite)
    return TracedGraph(program, written)
