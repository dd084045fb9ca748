"""What the heads share: decoding of their predictions, and the terms of the loss.

`N` images, `C` classes, `R` the largest distance (`reg_max`), in strides, `L` anchor points over all
levels, `P` positive points, which are those assigned to an object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable, NamedTuple

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal

from picoquant.detector.anchors import Grid, make_grid
from picoquant.detector.boxes import boxes_to_distances, distances_to_boxes
from picoquant.detector.losses.distribution_focal import distribution_focal_loss

BoxLoss = Callable[[Tensor, Tensor], Tensor]


class Logits(NamedTuple):
    """The results of a head's last convolutions, one tensor per level, finest first.

    Attributes:
        classes: (N, C, H, W).
        alignment: (N, 1, H, W); an empty list for a head without alignment map.
        distances: (N, 4 * (R + 1), H, W).
    """

    classes: list[Tensor]
    alignment: list[Tensor]
    distances: list[Tensor]


class Integral(nn.Layer):
    """Expected value of a distribution over 0..R, https://arxiv.org/abs/2006.04388."""

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        self.register_buffer("project", paddle.linspace(0, reg_max, reg_max + 1))
        self._bins = reg_max + 1

    def forward(self, logits: Tensor) -> Tensor:
        """(..., 4 * (R + 1)) -> (M, 4) distances in strides; M is the product of the leading dimensions."""
        probability = F.softmax(logits.reshape([-1, self._bins]), axis=1)
        return F.linear(probability, self.project).reshape([-1, 4])


class UnusedScale(nn.Layer):
    """A parameter without effect: PaddleDetection's head inherits it, so its weights files contain it."""

    def __init__(self) -> None:
        super().__init__()
        attribute = ParamAttr(initializer=Constant(1.0))
        self.scale_reg = self.create_parameter([1], attr=attribute, dtype="float32")


def add_unused_scales(head: nn.Layer, strides: Sequence[int]) -> None:
    """Add the parameters p3_feat.scale_reg … to `head`, which its weights files contain."""
    for stride in strides:
        head.add_sublayer(f"p{int(math.log2(stride))}_feat", UnusedScale())


def prediction_layer(in_channels: int, out_channels: int, bias: float) -> nn.Conv2D:
    """A 1x1 convolution initialised as the last layer of a head; every bias is `bias`."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        1,
        weight_attr=ParamAttr(initializer=Normal(0.0, 0.01)),
        bias_attr=ParamAttr(initializer=Constant(bias)),
    )


def prior_bias(prior_prob: float) -> float:
    """The bias with which an untrained class layer predicts the score `prior_prob`."""
    return -math.log((1 - prior_prob) / prior_prob)


def grid_of(maps: Sequence[Tensor], strides: Sequence[int], cell_offset: float) -> Grid:
    """The anchor points of feature maps (N, K, H, W), whose H and W must be fixed sizes."""
    return make_grid([tuple(m.shape[2:]) for m in maps], strides, cell_offset)


def _cells(feature: Tensor) -> int:
    """H * W, or -1 where they are not fixed (while a layer is traced for any size)."""
    height, width = feature.shape[2:]
    return height * width if height > 0 and width > 0 else -1


def rows(feature: Tensor) -> Tensor:
    """(N, K, H, W) -> (N, H * W, K); N may be a dynamic size, H and W not in a network to be exported."""
    return feature.reshape([0, feature.shape[1], _cells(feature)]).transpose([0, 2, 1])


def decode(
    scores: Sequence[Tensor],
    logits: Sequence[Tensor],
    integral: Integral,
    strides: Sequence[int],
    cell_offset: float,
) -> tuple[Tensor, Tensor]:
    """Scores and boxes of all points.

    Args:
        scores: (N, C, H, W), probabilities, one tensor per level.
        logits: (N, 4 * (R + 1), H, W), of the distances, one tensor per level.

    Returns: (N, C, L), 0 to 1, and (N, L, 4), x1 y1 x2 y2 in input pixels.
    """
    grid = grid_of(scores, strides, cell_offset)
    flat = [s.reshape([0, s.shape[1], _cells(s)]) for s in scores]
    distances = [integral(x.transpose([0, 2, 3, 1])).reshape([-1, _cells(x), 4]) for x in logits]
    boxes = distances_to_boxes(paddle.to_tensor(grid.cell_points), paddle.concat(distances, axis=1))
    return paddle.concat(flat, axis=-1), boxes * paddle.to_tensor(grid.strides)


def normaliser(total: Tensor) -> Tensor:
    """The divisor of the losses: the mean of `total` over all processes, at least 1.

    PaddleDetection applies this minimum in PicoHead, and in PicoHeadV2 with several processes. Here it
    applies to one process too, where a batch without objects would otherwise lead to a division by 0.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        total = total.clone()
        dist.all_reduce(total)
        total = total / dist.get_world_size()
    return total.clip(min=1.0)


class Predictions(NamedTuple):
    """A head's predictions for all points.

    Boxes are decoded for the points that they are asked for, most of which belong to no object.

    Attributes:
        logits: (N, L, 4 * (R + 1)), of the distances.
        points: (L, 2), in strides; strides: (L, 1), input pixels.
        integral: turns logits into distances.
    """

    logits: Tensor
    points: Tensor
    strides: Tensor
    integral: Integral

    @paddle.no_grad()
    def boxes_at(self, numbers: Tensor) -> Tensor:
        """The boxes of some of the N * L points, (M,) -> (M, 4) input pixels, without gradient."""
        place = numbers % self.points.shape[0]
        logits = rows_at(self.logits, numbers)
        return self.decoded(logits, paddle.gather(self.points, place)) * paddle.gather(self.strides, place)

    @property
    def pixel_boxes(self) -> Tensor:
        """(N, L, 4) input pixels, without gradient."""
        with paddle.no_grad():
            return self.decoded(self.logits, self.points) * self.strides

    def decoded(self, logits: Tensor, points: Tensor) -> Tensor:
        """Boxes (..., 4), in strides, of logits (..., 4 * (R + 1)) at points that broadcast with (..., 2)."""
        distances = self.integral(logits).reshape([*logits.shape[:-1], 4])
        # The results of `distances_to_boxes`, whose split is slow in training.
        sides = paddle.to_tensor([-1.0, -1.0, 1.0, 1.0])
        return distances * sides + paddle.concat([points, points], axis=-1)


def of_all_levels(levels: Sequence[Tensor]) -> Tensor:
    """(N, L, K) in 32-bit floats, of (N, H * W, K), one tensor per level."""
    found = paddle.concat(levels, axis=1)
    return found if found.dtype == paddle.float32 else found.astype("float32")  # which always copies


def predictions_of(levels: Sequence[Tensor], grid: Grid, integral: Integral) -> Predictions:
    """Predictions from distance logits (N, H * W, 4 * (R + 1)), one tensor per level."""
    logits = of_all_levels(levels)
    return Predictions(logits, paddle.to_tensor(grid.cell_points), paddle.to_tensor(grid.strides), integral)


def rows_at(values: Tensor, numbers: Tensor) -> Tensor:
    """Rows (M, K) of (N, L, K)."""
    return paddle.gather(values.reshape([-1, values.shape[-1]]), numbers)


class Positives(NamedTuple):
    """The positive points; P >= 1.

    Attributes:
        index: (P,) int64, into the N * L points.
        logits: (P, 4 * (R + 1)); boxes: (P, 4), predicted, in strides.
        points: (P, 2); targets: (P, 4), the objects' boxes, in strides.
        weights: (P,), weight of each point's loss.
        strides: (P,), input pixels.
    """

    index: Tensor
    logits: Tensor
    boxes: Tensor
    points: Tensor
    targets: Tensor
    weights: Tensor
    strides: Tensor


def positives_of(
    predictions: Predictions, labels: Tensor, targets: Tensor, weights: Tensor, num_classes: int
) -> Positives | None:
    """The points whose label is a class, not background; None if there are none.

    Args:
        labels: (N, L) integer, `num_classes` for background.
        targets: (N, L, 4), input pixels.
        weights: (N, L).
    """
    index = paddle.nonzero(labels.flatten() < num_classes).flatten()
    if index.shape[0] == 0:
        return None

    place = index % predictions.points.shape[0]
    logits, points = rows_at(predictions.logits, index), paddle.gather(predictions.points, place)
    strides = paddle.gather(predictions.strides, place)
    return Positives(
        index=index,
        logits=logits,
        boxes=predictions.decoded(logits, points),
        points=points,
        targets=rows_at(targets, index) / strides,
        weights=paddle.gather(weights.flatten(), index),
        strides=strides.flatten(),
    )


class HeadLoss(NamedTuple):
    """The loss of a head, and what a teacher's losses need of it.

    Attributes:
        terms: the weighted terms, each a scalar.
        classes: (N, L, C) float32, logits or scores as `logits` says, with their gradient.
        logits: whether `classes` are logits.
        positives: None without positive points.
        class_total, box_total: divisors of the class loss and of the losses of boxes, scalars.
    """

    terms: dict[str, Tensor]
    classes: Tensor
    logits: bool
    positives: Positives | None
    class_total: Tensor
    box_total: Tensor


def level_means(values: Tensor, strides: Tensor) -> Tensor:
    """(P,): for each point, the mean of `values` (P,) over the points of the same level."""
    level = paddle.unique(strides, return_inverse=True)[1]
    members = F.one_hot(level, int(level.max()) + 1)
    return paddle.matmul(members, paddle.matmul(values, members) / members.sum(axis=0))


def box_losses(
    predictions: Predictions,
    positives: Positives | None,
    box_loss: BoxLoss,
    box_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sums of the box loss and of the distribution focal loss over the positive points.

    The distribution focal loss of a point is the mean over its four sides.

    Args:
        box_weights: (P,), weights of the box loss; None: `positives.weights`.

    Returns: two scalars; both are 0 without positive points.
    """
    if positives is None:
        nothing = predictions.logits.sum() * 0  # keeps every parameter in the backward pass
        return nothing, nothing
    bins = positives.logits.shape[-1] // 4
    distances = boxes_to_distances(positives.points, positives.targets, bins - 1 - 0.1)
    sides = distribution_focal_loss(positives.logits.reshape([-1, bins]), distances.flatten())
    overlap = box_loss(positives.boxes, positives.targets)
    return (
        (overlap * (positives.weights if box_weights is None else box_weights)).sum(),
        (sides.reshape([-1, 4]).mean(axis=-1) * positives.weights).sum(),
    )
