"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from picoquant.detector.boxes import (
    boxes_to_distances,
    distances_to_boxes,
    pairwise_iou,
    points_inside,
)
from picoquant.detector.losses import iou, varifocal_blocks
from picoquant.detector.losses.distribution_focal import distribution_focal_loss
from picoquant.detector.losses.quality_focal import quality_focal_loss
from picoquant.detector.losses.varifocal import varifocal_loss, varifocal_total


def tensor(values) -> paddle.Tensor:
    return paddle.to_tensor(values, dtype="float32")


# Two 4x4 boxes, the second shifted by 2 in x: overlap 8, union 24, IoU 1/3; the hull is 6x4, full.
FIRST, SECOND = tensor([[0, 0, 4, 4]]), tensor([[2, 0, 6, 4]])


def test_varifocal_of_probabilities():
    # Positive, target 0.5, prediction 0.5: weight 0.5, entropy ln 2. Negative, prediction 0.5:
    # weight 0.75 * 0.25, entropy ln 2.
    found = varifocal_loss(tensor([[0.5, 0.5]]), tensor([[0.5, 0.0]]), use_sigmoid=False)
    expected = [0.5 * math.log(2), 0.75 * 0.25 * math.log(2)]
    assert found.numpy()[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_varifocal_of_logits_is_the_same():
    logits = tensor([[0.3, -2.0]])
    target = tensor([[0.8, 0.0]])
    direct = varifocal_loss(paddle.nn.functional.sigmoid(logits), target, use_sigmoid=False)
    found = varifocal_loss(logits, target, use_sigmoid=True)
    assert found.numpy()[0].tolist() == pytest.approx(direct.numpy()[0].tolist(), rel=1e-5)


def test_varifocal_unweighted_positive():
    found = varifocal_loss(tensor([[0.5]]), tensor([[0.5]]), iou_weighted=False, use_sigmoid=False)
    assert found.item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"iou_weighted": False, "alpha": 0.5}, {"gamma": 1.5}])
@pytest.mark.parametrize("positives", [3, 0])
def test_the_total_of_varifocal_and_its_gradient_are_those_of_the_elements(options, positives):
    random = np.random.RandomState(0)
    values = random.rand(20, 4).astype("float32")
    values[0], values[1], values[2] = 1.0, 0.0, 1e-6
    labels, quality = np.full(20, 4), np.zeros(20, "float32")
    places = [0, 1, 7][:positives]
    labels[places], quality[places] = [2, 0, 3][:positives], [0.9, 0.25, 1.0][:positives]
    labels[8] = 1  # of an object, but its box does not overlap: a negative
    target = np.zeros([20, 4], "float32")
    target[places, labels[places]] = quality[places]
    whole, total = tensor(values), tensor(values)
    whole.stop_gradient = total.stop_gradient = False
    expected = varifocal_loss(whole, tensor(target), use_sigmoid=False, **options).sum()
    found = varifocal_total(total, paddle.to_tensor(labels), tensor(quality), **options)
    (2 * expected).backward()
    (2 * found).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(total.grad.numpy(), whole.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_varifocal_is_finite_at_certainty():
    found = varifocal_loss(tensor([[1.0, 0.0]]), tensor([[0.0, 0.9]]), use_sigmoid=False)
    assert bool(paddle.isfinite(found).all())


def test_quality_focal():
    # Logit 0: score 0.5, entropy ln 2. Towards 0.8: distance 0.3; as a negative: distance 0.5.
    found = quality_focal_loss(tensor([[0.0, 0.0]]), tensor([[0.8, 0.0]]))
    expected = [0.09 * math.log(2), 0.25 * math.log(2)]
    assert found.numpy()[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_distribution_focal_splits_between_neighbours():
    # Logits 0 over 8 bins: each has -ln p = ln 8, so any split gives ln 8.
    assert distribution_focal_loss(paddle.zeros([1, 8]), tensor([2.25])).item() == pytest.approx(
        math.log(8), rel=1e-5
    )
    # Two bins, p = (0.75, 0.25); target 0.5: half of each.
    logits = tensor([[math.log(3), 0.0]])
    expected = -(0.5 * math.log(0.75) + 0.5 * math.log(0.25))
    assert distribution_focal_loss(logits, tensor([0.5])).item() == pytest.approx(expected, rel=1e-5)


def test_iou_losses():
    assert iou.giou_loss(FIRST, SECOND).item() == pytest.approx(1 - 1 / 3, rel=1e-5)
    # Centres 2 apart; the hull's diagonal squared is 36 + 16.
    assert iou.diou_loss(FIRST, SECOND).item() == pytest.approx(2 / 3 + 4 / 52, rel=1e-5)
    # Same aspect ratio: complete IoU adds nothing.
    assert iou.ciou_loss(FIRST, SECOND).item() == pytest.approx(2 / 3 + 4 / 52, rel=1e-5)
    assert iou.iou_loss(FIRST, SECOND, square=False).item() == pytest.approx(2 / 3, rel=1e-5)
    assert iou.iou_loss(FIRST, SECOND).item() == pytest.approx(1 - 1 / 9, rel=1e-5)
    assert iou.iou_loss(FIRST, SECOND, "giou", False).item() == pytest.approx(2 / 3, rel=1e-5)
    # Along an axis the angle cost is 0; distance cost 1 - exp(-2 * (2/6) ** 2); same shape.
    expected = 2 / 3 + (1 - math.exp(-2 / 9)) / 2
    assert iou.siou_loss(FIRST, SECOND).item() == pytest.approx(expected, rel=1e-3)


def test_aligned_iou():
    found = iou.aligned_iou(tensor([[0, 0, 4, 4], [0, 0, 0, 0]]), tensor([[2, 0, 6, 4], [0, 0, 0, 0]]))
    assert found.numpy().tolist() == pytest.approx([1 / 3, 0])


def test_giou_of_boxes_apart():
    # 1x1 boxes two apart: IoU 0, hull 3x1, union 2: GIoU = 0 - 1/3.
    found = iou.giou_loss(tensor([[0, 0, 1, 1]]), tensor([[2, 0, 3, 1]]))
    assert found.item() == pytest.approx(4 / 3, rel=1e-5)


def test_ciou_of_another_aspect_ratio():
    # 4x2 against 2x4 around one centre: overlap 4, union 12, IoU 1/3.
    turn = math.atan(0.5) - math.atan(2)
    aspect = 4 / math.pi**2 * turn**2
    expected = 2 / 3 + aspect * aspect / (2 / 3 + aspect)
    found = iou.ciou_loss(tensor([[0, 1, 4, 3]]), tensor([[1, 0, 3, 4]]))
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [iou.giou_loss, iou.diou_loss, iou.ciou_loss, iou.siou_loss, iou.iou_loss])
def test_gradients_stay_finite_where_boxes_touch_or_agree(loss):
    boxes = tensor([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0]])
    boxes.stop_gradient = False
    loss(boxes, tensor([[0, 0, 4, 4], [4, 0, 8, 4], [1, 1, 2, 2]])).sum().backward()
    assert bool(paddle.isfinite(boxes.grad).all())


def test_pairwise_iou():
    found = pairwise_iou(FIRST, tensor([[2, 0, 6, 4], [0, 0, 4, 4], [9, 9, 9, 9]]))
    assert found.numpy()[0].tolist() == pytest.approx([1 / 3, 1, 0], abs=1e-6)


def test_points_inside_is_strict():
    found = points_inside(tensor([[5, 5], [10, 5]]), tensor([[[0, 0, 10, 10]]]))
    assert found.numpy().tolist() == [[[True, False]]]


def test_distances_and_boxes_are_inverse():
    points = tensor([[5, 6]])
    boxes = distances_to_boxes(points, tensor([[1, 2, 3, 4]]))
    assert boxes.numpy().tolist() == [[4, 4, 8, 10]]
    assert boxes_to_distances(points, boxes, 6.9).numpy().tolist() == [[1, 2, 3, 4]]
    assert boxes_to_distances(points, boxes, 2.5).numpy().tolist() == [[1, 2, 2.5, 2.5]]


@pytest.mark.parametrize("ones", [[0, 100_002], []])
def test_the_total_of_many_scores_is_that_of_float64(ones):
    """Several blocks and a rest, and scores of exactly 0 and 1; a block without a 1 takes another way."""
    random = np.random.RandomState(0)
    scores = random.rand(200_003).astype("float32") ** 3
    scores[20_000] = 0.0
    scores[ones] = 1.0
    gradient = np.empty_like(scores)
    total = varifocal_blocks.negatives(scores, gradient, 0.75)
    p = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        log = np.maximum(np.log(1 - p), -100)
    assert total == pytest.approx(float(-0.75 * (p**2 * log).sum()), rel=1e-6)
    expected = 0.75 * (p**2 / np.maximum(1 - p, 1e-12) - 2 * p * log)
    np.testing.assert_allclose(gradient, expected, rtol=2e-5, atol=1e-6)


def test_a_score_that_is_no_number_makes_the_total_none():
    scores = np.full(5, 0.5, np.float32)
    scores[3] = np.nan
    assert math.isnan(varifocal_blocks.negatives(scores, np.empty_like(scores), 0.75))
