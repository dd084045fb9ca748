"""SimOTA on cases small enough to work out by hand.

The grid is one level of 4x4 cells at stride 8 (a 32x32 image): points at 4, 12, 20, 28.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.detector.anchors import make_grid
from picoquant.detector.assigners.atss import assign_atss_hard
from picoquant.detector.assigners.simota import assign_image, assign_simota

GRID = make_grid([(4, 4)], [8], 0.5)
CLASSES = 2


def assign(scores, boxes, gt_bbox, gt_class, **options):
    objects = np.array(gt_bbox, np.float32).reshape(-1, 4)
    classes = np.array(gt_class, np.int64)
    return assign_image(GRID.points, GRID.strides, scores, boxes, objects, classes, **options)


def predictions(boxes: dict[int, list[float]], score: float = 0.5):
    """Scores all alike, boxes of no area except those given."""
    values = np.zeros((16, 4), np.float32)
    for point, box in boxes.items():
        values[point] = box
    return np.full((16, CLASSES), score, np.float32), values


def test_an_object_takes_as_many_points_as_its_overlaps_sum_to():
    # Points 5 and 6 predict the object exactly, 9 three quarters of it: the sum is 2.75, so 2 points.
    gt = [8, 8, 24, 24]
    scores, boxes = predictions({5: gt, 6: gt, 9: [8, 8, 24, 20]})
    found = assign(scores, boxes, [gt], [1])
    assert np.flatnonzero(found.labels < CLASSES).tolist() == [5, 6]
    assert found.labels[5] == 1
    assert found.boxes[5].tolist() == gt
    assert found.positives == 2


def test_at_least_one_point_even_without_overlap():
    scores, boxes = predictions({})
    found = assign(scores, boxes, [[8, 8, 24, 24]], [0])
    assert (found.labels < CLASSES).sum() == 1


def test_points_outside_come_last():
    # Point 0 predicts the object exactly but lies outside it; point 5 is inside with half of it. The
    # sum of overlaps is 1.5: one point, the one inside.
    gt = [8, 8, 16, 16]
    scores, boxes = predictions({0: gt, 5: [8, 8, 16, 12]})
    assert np.flatnonzero(assign(scores, boxes, [gt], [0]).labels < CLASSES).tolist() == [5]


def test_the_cheaper_class_wins_between_equal_boxes():
    # Both points predict the object exactly; point 6 is surer of its class. Overlaps limited to one.
    gt = [8, 8, 24, 16]
    scores, boxes = predictions({5: gt, 6: gt})
    scores[6, 1] = 0.9
    found = assign(scores, boxes, [gt], [1], candidate_topk=1)
    assert np.flatnonzero(found.labels < CLASSES).tolist() == [6]


def test_a_point_that_two_objects_want_goes_to_the_cheaper():
    # Both objects hold only point 5; it predicts the first one exactly.
    scores, boxes = predictions({5: [8, 8, 16, 16]})
    found = assign(scores, boxes, [[8, 8, 16, 16], [9, 9, 18, 18]], [0, 1])
    assert found.labels[5] == 0
    assert found.boxes[5].tolist() == [8, 8, 16, 16]


def test_cost_by_cross_entropy():
    gt = [8, 8, 24, 16]
    scores, boxes = predictions({5: gt, 6: [8, 8, 16, 16]})
    found = assign(scores, boxes, [gt], [1], use_vfl=False, candidate_topk=1)
    assert np.flatnonzero(found.labels < CLASSES).tolist() == [5]


@pytest.mark.parametrize("assigner", [assign_simota, assign_atss_hard])
def test_batches_leave_padding_out(assigner):
    """Image 0 has the object that is cell 5 and padding, image 1 padding only."""
    gt_bbox = np.zeros((2, 2, 4), np.float32)
    gt_bbox[0, 0] = [8, 8, 16, 16]
    mask = np.zeros((2, 2, 1), np.float32)
    mask[0, 0] = 1
    scores, boxes = predictions({5: [8, 8, 16, 16]})
    found = assigner(
        GRID,
        paddle.to_tensor(np.stack([scores] * 2)),
        paddle.to_tensor(np.stack([boxes] * 2)),
        paddle.to_tensor(gt_bbox),
        paddle.to_tensor(np.ones((2, 2, 1), np.int32)),
        paddle.to_tensor(mask),
    )
    labels = found.labels.numpy()
    assert np.argwhere(labels < CLASSES).tolist() == [[0, 5]]
    assert labels[0, 5] == 1
    # ATSS, as PaddleDetection's reader does, counts an image without objects as 1.
    assert found.positives == (1 if assigner is assign_simota else 2)


def test_hard_atss_takes_overlaps_equal_to_the_threshold():
    # Anchors of one cell; the object lies between four cells, IoU 1/7 with each, so the threshold is
    # their mean 1/7 (deviation 0): all four count, but only those whose points lie inside: (4, 4) and
    # its kin lie on its corners, outside. A pixel more on each side lets them in, IoU 16 more.
    def positives(gt):
        scores, boxes = predictions({})
        found = assign_atss_hard(
            GRID,
            paddle.to_tensor(scores[None]),
            paddle.to_tensor(boxes[None]),
            paddle.to_tensor([[gt]], dtype="float32"),
            paddle.zeros([1, 1, 1], "int32"),
            paddle.ones([1, 1, 1]),
            grid_cell_scale=1.0,
            topk=4,
        )
        return np.flatnonzero(found.labels.numpy()[0] < CLASSES).tolist()

    assert positives([4, 4, 12, 12]) == []
    assert positives([3, 3, 13, 13]) == [0, 1, 4, 5]
