"""How much an error of each tensor of a network costs its detections.

To first order an error `e` of a tensor changes a probe (`DetectionError.probe`) by the sum of `gradient * e`, and the
mean square of that is what the error costs. Rounding errors are independent of one another, so for them it is the
sum of `gradient^2 * e^2`: squared gradients are what errors are weighted with, as in BRECQ
(https://arxiv.org/abs/2102.05426).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import paddle

from picoquant.errors import DataError
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import Graph
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.calibration_images import is_finite
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.feeds import cuts
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.whole_graph import WholeGraph, computed_of_images, run_each, whole
from picoquant.quantization.ptq.detection_error import DetectionError, random_signs
from picoquant.utils.background import in_background

T = TypeVar("T")
Feed = Mapping[str, np.ndarray]
Measured = dict[str, np.ndarray]


@dataclass(frozen=True)
class Observed:
    """What a batch showed.

    Attributes:
        images: how many.
        values, gradients: by tensor, `[images, …]` float32; tensors that nothing depends on are left out.
        weights: the gradients of stored tensors, by name, sums over images.
    """

    images: int
    values: Mapping[str, np.ndarray]
    gradients: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]


def observe_gradients(
    network: FakeQuantNetwork, error: DetectionError, feeds: Iterable[Feed], names: Sequence[str]
) -> Iterator[Observed]:
    """Run a network over batches and back.

    Args:
        network: in float.
        error: of its outputs.
        feeds: the batches.
        names: tensors to observe.

    Raises: `DataError` for a gradient that is not finite.
    """
    random = np.random.RandomState(0)
    names = tuple(name for name in names if name not in network.graph.inputs)
    for feed in feeds:
        tensors = {name: paddle.to_tensor(value) for name, value in feed.items()}
        yield _observe(network, error, tensors, names, random)


def each_observed(
    network: FakeQuantNetwork,
    error: DetectionError,
    feeds: Iterable[Feed],
    names: Sequence[str],
    work: Callable[[Observed], T],
    model: ProgramModel | None = None,
    weights: Sequence[str] = (),
) -> Iterator[T]:
    """What `work` makes of each batch, or of each image of it, in their order.

    Args:
        network, error, feeds, names: as of `observe_gradients`.
        work: called in another thread.
        model: the network's program, which then runs as one graph where it can be one; an image at a time, several at
            once.
        weights: names of the stored tensors whose gradients are wanted; a network without a graph gives all.
    """
    if model is not None and whole(network.graph):
        yield from _each_of_graph(network.graph, model, error, feeds, names, work, weights)
        return
    done: list[T] = []
    with in_background(at_most=1) as call:
        for seen in observe_gradients(network, error, feeds, names):
            call(lambda one: done.append(work(one)), seen)
            while done:
                yield done.pop(0)
    yield from done


def _each_of_graph(
    graph: Graph,
    model: ProgramModel,
    error: DetectionError,
    feeds: Iterable[Feed],
    names: Sequence[str],
    work: Callable[[Observed], T],
    weights: Sequence[str],
) -> Iterator[T]:
    names = tuple(name for name in computed_of_images(graph, names) if name not in graph.inputs)
    made = WholeGraph(model, names, error.names, error.probe, weights)

    def run(images: int, found: list[np.ndarray]) -> T:
        values, rest = dict(zip(names, found)), iter(found[len(names) :])
        gradients, of_weights = ({name: next(rest) for name in some} for some in made.gradients)
        return work(
            _checked(Observed(images, {name: values[name] for name in gradients}, gradients, of_weights))
        )

    yield from run_each(made, _signed(graph, feeds, made.signs), run)


def _signed(
    graph: Graph, feeds: Iterable[Feed], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[Feed, int]]:
    """Images one by one, with the signs that their batch would have got as a whole, and how many they are."""
    random = np.random.RandomState(0)
    for feed in feeds:
        images = len(next(iter(feed.values())))
        signs = {name: random_signs(random, (images, *shape)) for name, shape in shapes.items()}
        for cut in cuts(graph, images, 1):
            yield {name: value[cut] for name, value in {**feed, **signs}.items()}, cut.stop - cut.start


def signs_like(tensor: Any, random: np.random.RandomState) -> Any:
    """Random signs of a tensor's shape, for `DetectionError.probe`."""
    return paddle.to_tensor(random_signs(random, tensor.shape))


def _observe(
    network: FakeQuantNetwork,
    error: DetectionError,
    feed: Mapping[str, paddle.Tensor],
    names: tuple[str, ...],
    random: np.random.RandomState,
) -> Observed:
    found = network(feed, (*names, *error.names))
    tensors = dict(zip(names, found))
    for tensor in tensors.values():
        tensor.retain_grads()
    error.probe(found[len(names) :], lambda one: signs_like(one, random)).backward()
    seen = {name: tensor for name, tensor in tensors.items() if tensor.grad is not None}
    weights = {one.name: one.grad.numpy() for one in network.trained() if one.grad is not None}
    for one in network.trained():
        one.clear_gradient(False)
    gradients = {name: as_array(tensor.grad) for name, tensor in seen.items()}
    values = {name: as_array(tensor) for name, tensor in seen.items()}
    return _checked(Observed(len(next(iter(feed.values()))), values, gradients, weights))


def _checked(seen: Observed) -> Observed:
    """Raises: `DataError` for a gradient that is not finite, where all values are: else calibration names the image."""
    found = {**seen.weights, **seen.gradients}
    broken = [name for name, value in found.items() if not is_finite(value)]
    if broken and all(map(is_finite, seen.values.values())):
        _refuse(broken)
    return seen


def _refuse(broken: Sequence[str]) -> NoReturn:
    """The last in the network's order is named: it is where going back first met what is not finite."""
    raise DataError(
        f"what an error of {broken[-1]} costs the detections is not finite, so this network cannot be calibrated "
        "by it: set Quantize.ranges to mse and Quantize.cross_layer_equalisation to false"
    )


@dataclass(frozen=True)
class Sensitivity:
    """What errors cost, per unit squared, mean over images; see `DetectionError` for the unit.

    Attributes:
        tensors: of each tensor `[N, C, H, W]`, by name: `[C]`, an error of every value of the channel.
        gates: of what a hard-swish multiplies its input with, 0 to 6, by the name of its result: `[C]`.
        weights: of each convolution's weight, by name: `[O, I]`, an error of every weight of that pair.
    """

    tensors: Mapping[str, np.ndarray]
    gates: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]


def measure_sensitivity(
    network: FakeQuantNetwork,
    error: DetectionError,
    feeds: Iterable[Feed],
    names: Collection[str] | None = None,
    model: ProgramModel | None = None,
) -> Sensitivity:
    """Measure what errors of a float network's tensors cost.

    Args:
        network: its batch-norms are folded.
        error: of its outputs.
        feeds: batches of images. Those of several cost less time, and show less of the weights: the signs of a probe
            differ from image to image, so that a square of a sum is a sum of squares on average alone.
        names: of the tensors whose cost is wanted; None: all. Those of gates are measured, too.
        model: see `each_observed`.
    """
    graph = network.graph
    maps = [
        name
        for op in graph.operators
        for name in op.results
        if graph.is_activation(name) and len(graph.tensor(name).shape or ()) == 4
    ]
    maps = network.computable(maps)
    convolutions = [op.input("Filter0") for op in graph.operators if op.op_type in CONVOLUTIONS]
    convolutions = list(dict.fromkeys(convolutions))
    inputs = {op.results[0]: op.input("X0") for op in graph.operators if op.op_type == "hard_swish"}
    if names is not None:
        wanted = {*names, *inputs, *inputs.values()}
        maps = tuple(name for name in maps if name in wanted)
    tensors: dict[str, np.ndarray] = {}
    gates: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    images = 0

    def measure(seen: Observed) -> tuple[int, Measured, Measured, Measured]:
        return (
            seen.images,
            {name: _squares(gradient) for name, gradient in seen.gradients.items()},
            {
                name: _squares(seen.gradients[name] * seen.values[before] / 6)
                for name, before in inputs.items()
                if name in seen.gradients and before in seen.values
            },
            {
                name: np.square(seen.weights[name], dtype=np.float64).sum((2, 3))
                for name in convolutions
                if name in seen.weights
            },
        )

    for count, *measured in each_observed(network, error, feeds, maps, measure, model, convolutions):
        images += count
        for total, one in zip((tensors, gates, weights), measured):
            for name, value in one.items():
                total[name] = total.get(name, 0) + value
    return Sensitivity(
        *({name: total / images for name, total in one.items()} for one in (tensors, gates, weights))
    )


def _squares(values: np.ndarray) -> np.ndarray:
    """The sums of the squares of `[N, C, H, W]`, `[C]` float64: exact enough, without a copy in float64."""
    return np.einsum("nchw,nchw->nc", values, values).sum(0, dtype=np.float64)
