"""Steps that the assigners share: the objects without padding, points that several claim, targets.

`N` images, `G` objects of an image, padding included, `R` objects of all images without it, `L` anchor points, `C`
classes. A point of all images has the number image * L + point. Almost no point belongs to an object, so what is
computed for pairs of both is computed for those alone that may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import paddle
from paddle import Tensor

BoxesAt = Callable[[Tensor], Tensor]  # numbers of points (M,) -> their predicted boxes (M, 4), input pixels


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


class Objects(NamedTuple):
    """The objects of all images, without padding.

    Attributes:
        image, place: (R,) int64; which of the N images, which of its G objects.
        boxes: (R, 4), input pixels.
    """

    image: Tensor
    place: Tensor
    boxes: Tensor


def objects_of(gt_bbox: Tensor, pad_gt_mask: Tensor) -> Objects | None:
    """The objects of (N, G, 4) that the mask (N, G, 1) is above 0 for; None if there are none."""
    if gt_bbox.shape[1] == 0:
        return None
    real = paddle.nonzero(pad_gt_mask.squeeze(-1) > 0)
    if real.shape[0] == 0:
        return None
    image, place = real.unbind(-1)
    return Objects(image, place, paddle.gather_nd(gt_bbox, real))


def background(images: int, points: int, num_classes: int) -> Assignment:
    """The assignment of images without any object."""
    return Assignment(
        paddle.full([images, points], num_classes, "int64"),
        paddle.zeros([images, points, 4]),
        paddle.zeros([images, points]),
    )


def top_candidates(values: Tensor, k: int, largest: bool) -> Tensor:
    """The k best points of every object, (R, min(k, L)).

    Args:
        values: (R, L).
        largest: whether the best values are the largest or the smallest.
    """
    return paddle.topk(values, min(k, values.shape[-1]), axis=-1, largest=largest)[1]


def owners(
    points: Tensor,
    places: Tensor,
    count: int,
    overlaps: Callable[[Tensor], Tensor],
    claimants_only: bool = False,
) -> Tensor:
    """The object of each point: of those that claim it the one of the greatest overlap.

    The overlaps of all objects of the image are compared, as in PaddleDetection, so that object may be one that does
    not claim the point.

    Args:
        points: (M,), numbers of points that are claimed; M >= 1.
        places: (M,), which of its image's objects claims the point.
        count: N * L.
        overlaps: numbers of points (P,) -> their overlaps with all objects of their images, (P, G).
        claimants_only: compare the overlaps of those objects alone that claim the point.

    Returns: (N * L,) int64, which of its image's objects a point belongs to; -1 for none.
    """
    owner = paddle.scatter(paddle.full([count], -1, "int64"), points, places)
    claims = paddle.bincount(points, minlength=count)
    contested = paddle.nonzero(claims > 1).flatten()
    if contested.shape[0] == 0:
        return owner
    found = overlaps(contested)
    if claimants_only:
        mine = paddle.nonzero(paddle.gather(claims, points) > 1).flatten()
        row = paddle.searchsorted(contested, paddle.gather(points, mine))
        where = paddle.stack([row, paddle.gather(places, mine)], axis=-1)
        found = found * paddle.scatter_nd(where, paddle.ones([where.shape[0]]), found.shape)
    return paddle.scatter(owner, contested, found.argmax(axis=-1))


def targets(
    owner: Tensor, gt_bbox: Tensor, gt_class: Tensor, quality: Tensor, num_classes: int
) -> Assignment:
    """The targets of every point, from its object.

    Args:
        owner: (N * L,), as `owners` returns it.
        gt_bbox: (N, G, 4), input pixels; G >= 1.
        gt_class: (N, G, 1) integer.
        quality: (N * L,), the target score of the object's class; 0 without one.
    """
    images, objects = gt_bbox.shape[:2]
    owner = owner.reshape([images, -1])
    flat = (owner.clip(min=0) + paddle.arange(images).unsqueeze(-1) * objects).flatten()
    labels = paddle.gather(gt_class.flatten().astype("int64"), flat).reshape(owner.shape)
    labels = paddle.where(owner < 0, paddle.full_like(labels, num_classes), labels)
    boxes = paddle.gather(gt_bbox.reshape([-1, 4]), flat).reshape([*owner.shape, 4])
    return Assignment(labels, boxes, quality.reshape(owner.shape))
