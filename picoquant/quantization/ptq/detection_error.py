"""What an error inside a network costs its detections, as sums of squares that have gradients.

Of scores the change of their squares counts, so that what is far below any threshold counts next to nothing, or their
own change; of boxes the shift of each side in parts of the box, times the location's best score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.postprocess import Decoder
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.final_nodes import final_nodes

_BOX = 3.0  # what the shift of a whole box counts beside a score of 1
_SMALLEST = 0.5  # a box's side, in cells: of less a shift is not taken relative
_FLAT = 1e-4  # added to squares before their root is taken, whose gradient at 0 has no end

# A tensor of the network, and the factors of its changes (they have no gradient).
Weighted = tuple[Any, Any]


class DetectionError:
    """The error of a network's outputs: the sum of `(factor * change)^2` over the tensors of `weighted`.

    Args:
        network: the float network.
        config: of its model folder.
        of_scores: whether scores' own changes count, not those of their squares: low ones count, too, which mAP takes
            into account. Ranges are better chosen by squares, training ends better with scores (docs/accuracy.md).

    Attributes:
        names: the tensors of the network that `weighted` takes. They are its outputs where these are scores and boxes,
            and what it suppresses where it does so by itself; where it is no PicoDet, the last tensors with weights,
            whose changes count in parts of an image's standard deviation.
    """

    def __init__(self, network: FakeQuantNetwork, config: InferConfig, of_scores: bool = False) -> None:
        graph = network.graph
        suppressed, decoder = _suppressed(network), _decoder(network, config)
        self._levels, self._of_scores = len(config.strides), of_scores
        self._kind = "boxes" if suppressed else decoder.kind if decoder else None
        self._logits = decoder is not None and decoder.raw_outputs == "logits"
        self.names = suppressed or (tuple(graph.outputs) if decoder else tuple(final_nodes(graph)))

    def weighted(self, tensors: Sequence[Any]) -> list[Weighted]:
        """What counts, of the tensors in `names`."""
        if self._kind is None:
            return [(one, 1 / (_deviation(_constant(one)) + 1e-12)) for one in tensors]
        if self._kind == "boxes":
            boxes, scores = tensors if tensors[0].shape[-1] == 4 else reversed(tensors)
            best = _constant(scores).max(axis=1).unsqueeze(-1)
            left_top, right_bottom = _constant(boxes).chunk(2, axis=-1)
            sides = (right_bottom - left_top).clip(min=1.0)
            return [
                (self._counted(scores**2), paddle.ones([])),
                (boxes, _BOX * best / paddle.concat([sides, sides], axis=-1)),
            ]
        found: list[Weighted] = []
        for level in range(self._levels):
            found += self._of_level(tensors[level :: self._levels])
        return found

    def _of_level(self, maps: Sequence[Any]) -> list[Weighted]:
        """Of class outputs `[N, L, C]`, alignment logits if there are any, and distance logits `[N, L, 4 (R + 1)]`."""
        classes, *alignment, distances = maps
        if self._logits:
            classes = F.sigmoid(classes)
        squares = classes * F.sigmoid(alignment[0]) if alignment else classes**2
        best = _constant(squares).max(axis=-1, keepdim=True).sqrt()
        batch, points, size = distances.shape
        parts = F.softmax(distances.reshape([batch, points, 4, size // 4]), axis=-1)
        sides = (parts * paddle.arange(size // 4, dtype="float32")).sum(
            axis=-1
        )  # left, top, right, bottom, in cells
        lengths = _constant(sides)[..., :2] + _constant(sides)[..., 2:] + _SMALLEST
        return [
            (self._counted(squares), paddle.ones([])),
            (sides, _BOX * best / paddle.concat([lengths, lengths], axis=-1)),
        ]

    def _counted(self, squares: Any) -> Any:
        """What counts of scores, of their squares."""
        return paddle.sqrt(squares + _FLAT) if self._of_scores else squares

    def between(self, reference: Sequence[Any], tensors: Sequence[Any]) -> Any:
        """The error of some tensors, mean over images; a scalar.

        Args:
            reference: those in `names` of the float network, without gradients; they say what counts how much.
            tensors: the same of another network.
        """
        total = paddle.zeros([])
        for (wanted, factor), (value, _) in zip(self.weighted(reference), self.weighted(tensors)):
            total = total + (((value - wanted) * factor) ** 2).sum()
        return total / len(reference[0])

    def probe(self, tensors: Sequence[Any], signs: Callable[[Any], Any]) -> Any:
        """A scalar whose squared derivative by anything is, on average, the error that a unit of change there makes.

        Each change that counts goes into the sum with a random sign, so that different ones do not add up.

        Args:
            tensors: those in `names`.
            signs: makes the random signs of a tensor, of its shape; see `random_signs`.
        """
        total = paddle.zeros([])
        for value, factor in self.weighted(tensors):
            total = total + (value * factor * signs(value)).sum()
        return total


def random_signs(random: np.random.RandomState, shape: Sequence[int]) -> np.ndarray:
    """An array of -1 and 1, float32."""
    return random.choice(np.float32([-1, 1]), shape)


def _constant(tensor: Any) -> Any:
    """A tensor's values without gradient."""
    if paddle.in_dynamic_mode():
        return tensor.detach()
    found = paddle.assign(tensor)  # in a static graph `detach` shares memory that operators then write to
    found.stop_gradient = True
    return found


def _deviation(tensor: Any) -> Any:
    """The standard deviation of each image's values, `[N, 1, …]`; of all, where images have no axis of their own."""
    if tensor.ndim < 2:
        return tensor.std(unbiased=False)
    found = tensor.flatten(1).std(axis=1, unbiased=False)
    return found.reshape([-1] + [1] * (tensor.ndim - 1))


def _suppressed(network: FakeQuantNetwork) -> tuple[str, ...]:
    """Boxes and scores that go into the network's own suppression; none where it has none, or they are not computed."""
    found = [op for op in network.graph.operators if op.op_type.startswith("multiclass_nms")]
    inputs = {slot.rstrip("0"): name for op in found for slot, name in op.inputs}
    names = tuple(inputs[slot] for slot in ("BBoxes", "Scores") if slot in inputs)
    return names if len(found) == 1 and len(names) == 2 and network.computable(names) == names else ()


def _decoder(network: FakeQuantNetwork, config: InferConfig) -> Decoder | None:
    """What fits the network's outputs; None where they are not scores and boxes, or cannot be computed."""
    outputs = network.graph.outputs
    shapes = [network.graph.tensor(name).shape or () for name in outputs]
    try:
        decoder = Decoder.of(outputs, shapes, config)
    except WeightsError:
        return None
    return decoder if network.computable(outputs) == tuple(outputs) and decoder.kind != "detections" else None
