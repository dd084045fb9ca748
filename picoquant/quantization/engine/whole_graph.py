"""A float network as one static graph that gives any of its tensors, and the gradients of a scalar by them.

For calibration, which looks at all tensors of a few images: operator by operator, as dygraph runs them, each kind of
convolution is traced, and entering and leaving its graphs takes as long as computing small images. Here the network's
own program runs, on the same kernels; what it gives is equal bit for bit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import paddle
from paddle.base.framework import _dygraph_guard

from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import FEED, FETCH, Graph
from picoquant.paddle_program.layers import BATCH_NORM
from picoquant.quantization.engine.feeds import images_at_once
from picoquant.quantization.engine.openmp import use_threads
from picoquant.quantization.engine.prepared import Feed, PreparedGraph
from picoquant.quantization.engine.traced import traceable
from picoquant.training.fast import Rewrite, fast_convolutions_available
from picoquant.utils.device import available_cpus
from picoquant.utils.paddle_version.differences import clip_passes_gradients_at_its_bounds, paddle_3

_SHAPE = "XShape"
_SHAPE_IN_AN_OUTPUT = ("reshape2", "transpose2", "squeeze2", "unsqueeze2", "flatten_contiguous_range")

_COPIES = 2  # what is given is copied: values and gradients of about every third tensor
_WORKERS = 4  # each has a graph of its own, which takes half a second to prepare

T, K = TypeVar("T"), TypeVar("K")
Runner = Callable[[Feed], list[np.ndarray]]
# Gives a scalar of some tensors; its second argument makes the signs of a tensor, of its shape.
Scalar = Callable[[Sequence[Any], Callable[[Any], Any]], Any]


def whole(graph: Graph) -> bool:
    """Whether a network can be one: its batch-norms are folded, and Paddle 2.6 runs it on oneDNN."""
    folded = all(op.op_type != BATCH_NORM for op in graph.operators)
    return folded and traceable(graph) and fast_convolutions_available() and not paddle_3()


def computed_of_images(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """Those of some tensors that depend on the network's inputs; others, such as reshaped biases, need not be there."""
    found = set(graph.inputs)
    for op in graph.operators:
        if any(name in found for _, name in op.inputs):
            found.update(op.results)
    return tuple(name for name in names if name in found)


class WholeGraph:
    """A network as it is now, to be run by `runner`.

    Args:
        model: a network that can be `whole`.
        names: of the tensors to give, all of which are `computed_of_images`.
        read: names of the tensors that `scalar` takes.
        scalar: what gradients are of; None: none are computed.
        weights: names of the stored tensors whose gradients are wanted.

    Attributes:
        signs: shapes, without the images, of the signs that `scalar` asked for, by the names that they are fed by.
        gradients: names of the tensors, and of the weights, that have gradients.
        at_once: how many may run at the same time.
    """

    def __init__(
        self,
        model: ProgramModel,
        names: Sequence[str],
        read: Sequence[str] = (),
        scalar: Scalar | None = None,
        weights: Sequence[str] = (),
    ) -> None:
        clip_passes_gradients_at_its_bounds()  # tried now: in a static graph it could not be
        self.signs: dict[str, tuple[int, ...]] = {}
        self.gradients: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
        self.at_once = _at_once(model.graph())
        with _static_mode(), paddle.utils.unique_name.guard("scalar@"):  # beside the names of the program
            program = _program_of(model, {*names, *read}, weights)
            block, rewrite = program.global_block(), Rewrite()
            rewrite.before_append_backward(program)
            fetched = list(names)
            if scalar is not None:
                _note_shapes(block)
                start = len(block.ops)
                with paddle.static.program_guard(program):
                    total = scalar([block.var(name) for name in read], self._sign)
                    wanted = [block.var(name) for name in (*names, *weights)]
                    found = dict(zip((*names, *weights), paddle.static.gradients([total], wanted)))
                rewrite.after_append_backward(program, start)
                known = [tuple(name for name in some if found[name] is not None) for some in (names, weights)]
                self.gradients = known[0], known[1]
                fetched += [found[name].name for some in known for name in some]
            stored = {variable.name for variable in block.vars.values() if variable.persistable}
            fed = [name for name in (*model.inputs, *self.signs) if block.has_var(name)]
            self._graph = PreparedGraph(program, fed, fetched)
        self._values = {name: value for name, value in model.values.items() if name in stored}

    def _sign(self, tensor: Any) -> Any:
        name = f"signs@{len(self.signs)}"
        self.signs[name] = tuple(tensor.shape[1:])
        return paddle.static.data(name, tensor.shape, "float32")

    def runner(self) -> Runner:
        """What computes the tensors, then their gradients, then those of weights; for one thread at a time.

        A feed holds images and signs; the arrays are not to be written to.
        """
        found = self._graph.runner(self._values)

        def run(feed: Feed) -> list[np.ndarray]:
            return [np.from_dlpack(_Fetched(one)) for one in found(feed)]

        return run


def run_each(
    graph: WholeGraph, feeds: Iterable[tuple[Feed, K]], work: Callable[[K, list[np.ndarray]], T]
) -> Iterator[T]:
    """What `work` makes of what the graph gives for each feed, in order.

    Several feeds are computed and worked on at once, each in one thread: small images leave little to divide among
    threads, and what comes out does not depend on how many there are.

    Args:
        graph: of a network.
        feeds: each with what `work` is to know of it; asked for in the caller's thread.
        work: called in any thread, with arrays that are its own.
    """
    own, opening = threading.local(), threading.Lock()

    def one(feed: Feed, known: K) -> T:
        if not hasattr(own, "run"):
            use_threads(1)
            with opening, _static_mode():  # Paddle prepares a copy of the program before the first run
                own.run = graph.runner()
                found = own.run(feed)
        else:
            found = own.run(feed)
        return work(known, found)

    workers = graph.at_once
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for feed, known in feeds:
                waiting.append(pool.submit(one, feed, known))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _at_once(graph: Graph) -> int:
    """How many graphs may run at the same time, by processors and by the memory that calibration is meant to take."""
    of_each = max(1, (graph.tensor(graph.inputs[0]).shape or (1,))[0])  # images, where they are fixed
    fitting = images_at_once(graph) // _COPIES // of_each
    return max(1, min(_WORKERS, available_cpus(), fitting))


def _program_of(model: ProgramModel, names: set[str], weights: Sequence[str]) -> Any:
    """A network's program as far as it computes some tensors; of the stored ones the weights alone have gradients."""
    message = model.message()
    block, needed, used = message.blocks[0], set(names), []
    for op in reversed(block.ops):
        results = {name for slot in op.outputs for name in slot.arguments}
        if op.type not in (FEED, FETCH) and results & needed:
            used.append(op.SerializeToString())
            needed.update(name for slot in op.inputs for name in slot.arguments)
    del block.ops[:]
    for one in reversed(used):
        block.ops.add().ParseFromString(one)
    for variable in [one for one in block.vars if one.persistable and one.name not in needed]:
        block.vars.remove(variable)
    program = paddle.static.Program.parse_from_string(message.SerializeToString())
    for variable in program.global_block().vars.values():
        fixed = variable.persistable and variable.name not in weights
        variable.stop_gradient = fixed or variable.name in model.inputs
    return program


def _note_shapes(block: Any) -> None:
    """Give operators the outputs that their gradients read a shape from; a saved program may have lost them."""
    for op in block.ops:
        if op.type in _SHAPE_IN_AN_OUTPUT and _SHAPE not in op.output_names:
            image = block.var(op.input("X")[0])
            name = f"{op.output('Out')[0]}@shape"
            block.create_var(name=name, shape=[0, *image.shape], dtype=image.dtype)
            op.desc.set_output(_SHAPE, [name])


@contextmanager
def _static_mode() -> Iterator[None]:
    """Within the block the calling thread builds and prepares programs, and runs no operators."""
    with _dygraph_guard(None):  # Paddle's public functions change the thread's mode that imported it
        yield


class _Fetched:
    """What `numpy.from_dlpack` wants of a tensor that was fetched."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return self._tensor._to_dlpack()  # Paddle's own function takes tensors of dygraph alone

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU; source: DLPack's `DLDeviceType`
