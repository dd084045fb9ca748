"""Steps that the assigners share: selecting candidates, resolving conflicts, targets of a match.

`N` images, `G` objects of an image (padding included), `L` anchor points, `C` classes. A match is
(N, G, L) float32, 1 where the point is assigned to the object; at most one object per point.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor


class Assignment(NamedTuple):
    """The targets of each point.

    Attributes:
        labels: (N, L) int64, class; C for background.
        boxes: (N, L, 4), input pixels; those of an arbitrary object where the label is background.
        quality: (N, L), the target score of the label's class, 0 to 1; 0 for background.
    """

    labels: Tensor
    boxes: Tensor
    quality: Tensor


class HardAssignment(NamedTuple):
    """Class and box target of each point; the head computes the target scores.

    Attributes:
        labels: (N, L) int64, class; C for background.
        boxes: (N, L, 4), input pixels; meaningless where the label is background.
        positives: divisor of the class loss, summed over the images.
    """

    labels: Tensor
    boxes: Tensor
    positives: float


def background(images: int, points: int, num_classes: int) -> Assignment:
    """The assignment of images without any object."""
    return Assignment(
        paddle.full([images, points], num_classes, "int64"),
        paddle.zeros([images, points, 4]),
        paddle.zeros([images, points]),
    )


def top_candidates(values: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The k best points of every object; all points where there are fewer than k.

    Args:
        values: (N, G, L).
        largest: whether the best values are the largest or the smallest.

    Returns: mask (N, G, L) float32 and indices (N, G, min(k, L)).
    """
    points = values.shape[-1]
    _, indices = paddle.topk(values, min(k, points), axis=-1, largest=largest)
    return F.one_hot(indices, points).sum(axis=-2), indices


def one_object_a_point(match: Tensor, overlaps: Tensor) -> Tensor:
    """Keep, for each point assigned to several objects, only the object of the greatest overlap.

    The overlaps of all objects are compared, as in PaddleDetection, so that object may be one to which the
    point was not assigned.

    Args:
        match, overlaps: (N, G, L).

    Returns: (N, G, L).
    """
    best = F.one_hot(overlaps.argmax(axis=-2), match.shape[1]).transpose([0, 2, 1])
    claims = match.sum(axis=-2, keepdim=True)
    return paddle.where((claims > 1).expand_as(match), best, match)


def targets(
    match: Tensor, gt_bbox: Tensor, gt_class: Tensor, quality: Tensor, num_classes: int
) -> Assignment:
    """The targets of every point, from a match.

    Args:
        match: (N, G, L), G >= 1.
        gt_bbox: (N, G, 4), input pixels.
        gt_class: (N, G, 1) integer.
        quality: (N, L), the target score of the object's class.
    """
    images, objects, _ = match.shape
    index = match.argmax(axis=-2)  # (N, L), the object of each point; 0 for background
    flat = (index + paddle.arange(images).unsqueeze(-1) * objects).flatten()
    labels = paddle.gather(gt_class.flatten().astype("int64"), flat).reshape(index.shape)
    found = match.sum(axis=-2) > 0
    labels = paddle.where(found, labels, paddle.full_like(labels, num_classes))
    boxes = paddle.gather(gt_bbox.reshape([-1, 4]), flat).reshape([*index.shape, 4])
    return Assignment(labels, boxes, quality * found.astype(quality.dtype))
