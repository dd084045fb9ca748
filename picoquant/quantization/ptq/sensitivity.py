"""How much an error of each tensor of a network costs its detections.

To first order an error `e` of a tensor changes a probe (`DetectionError.probe`) by the sum of `gradient * e`, and the
mean square of that is what the error costs. Rounding errors are independent of one another, so for them it is the
sum of `gradient^2 * e^2`: squared gradients are what errors are weighted with, as in BRECQ
(https://arxiv.org/abs/2102.05426).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from picoquant.errors import DataError
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.utils.background import in_background

Feed = Mapping[str, np.ndarray]


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
    error.probe(found[len(names) :], random).backward()
    seen = {name: tensor for name, tensor in tensors.items() if tensor.grad is not None}
    weights = {one.name: one.grad.numpy() for one in network.trained() if one.grad is not None}
    for one in network.trained():
        one.clear_gradient(False)
    gradients = {name: as_array(tensor.grad) for name, tensor in seen.items()}
    values = {name: as_array(tensor) for name, tensor in seen.items()}
    if all(np.isfinite(value).all() for value in values.values()):  # else calibration names the image
        _require_finite({**weights, **gradients})
    return Observed(len(next(iter(feed.values()))), values, gradients, weights)


def _require_finite(gradients: Mapping[str, np.ndarray]) -> None:
    """The last in the network's order is named: it is where going back first met what is not finite."""
    broken = [name for name, value in gradients.items() if not np.isfinite(value).all()]
    if broken:
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
    network: FakeQuantNetwork, error: DetectionError, feeds: Iterable[Feed]
) -> Sensitivity:
    """Measure what errors of a float network's tensors cost.

    Args:
        network: its batch-norms are folded.
        error: of its outputs.
        feeds: batches of images. Those of several cost less time, and show less of the weights: the signs of a probe
            differ from image to image, so that a square of a sum is a sum of squares on average alone.
    """
    graph = network.graph
    maps = [
        name
        for op in graph.operators
        for name in op.results
        if graph.is_activation(name) and len(graph.tensor(name).shape or ()) == 4
    ]
    maps = network.computable(maps)
    convolutions = {op.input("Filter0") for op in graph.operators if op.op_type in CONVOLUTIONS}
    inputs = {op.results[0]: op.input("X0") for op in graph.operators if op.op_type == "hard_swish"}
    tensors: dict[str, np.ndarray] = {}
    gates: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    images = 0

    def add(seen: Observed) -> None:
        for name, gradient in seen.gradients.items():
            tensors[name] = tensors.get(name, 0) + _squares(gradient)
            if name in inputs and inputs[name] in seen.values:
                by_gate = gradient * seen.values[inputs[name]] / 6
                gates[name] = gates.get(name, 0) + _squares(by_gate)
        for name in convolutions & set(seen.weights):
            weights[name] = weights.get(name, 0) + np.square(seen.weights[name], dtype=np.float64).sum((2, 3))

    with in_background(at_most=1) as call:
        for seen in observe_gradients(network, error, feeds, maps):
            images += seen.images
            call(add, seen)
    return Sensitivity(
        *({name: total / images for name, total in one.items()} for one in (tensors, gates, weights))
    )


def _squares(values: np.ndarray) -> np.ndarray:
    """The sums of the squares of `[N, C, H, W]`, `[C]` float64: exact enough, without a copy in float64."""
    return np.einsum("nchw,nchw->nc", values, values).sum(0, dtype=np.float64)
