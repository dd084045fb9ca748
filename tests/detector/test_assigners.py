"""Label assignment on cases small enough to work out by hand.

The grid is one level of 4x4 cells at stride 8 (a 32x32 image): points at 4, 12, 20, 28.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.detector.anchors import make_grid
from picoquant.detector.assigners.atss import assign_atss
from picoquant.detector.assigners.matching import owners, top_candidates
from picoquant.detector.assigners.task_aligned import assign_task_aligned
from tests.detector import dense_assigners

GRID = make_grid([(4, 4)], [8], 0.5)
POINTS = paddle.to_tensor(GRID.points)
CELLS = paddle.to_tensor(GRID.boxes(1.0))  # anchors as large as a cell
CLASSES = 3


def truth(boxes: list, classes: list, mask: list):
    """One image's objects as (gt_bbox, gt_class, pad_gt_mask)."""
    return (
        paddle.to_tensor([boxes], dtype="float32").reshape([1, -1, 4]),
        paddle.to_tensor([classes], dtype="int32").reshape([1, -1, 1]),
        paddle.to_tensor([mask], dtype="float32").reshape([1, -1, 1]),
    )


def atss(objects, topk=4, predicted=CELLS, **options):
    return assign_atss(CELLS, [16], at(predicted), *objects, CLASSES, topk=topk, **options)


def at(boxes):
    """What gives some of all boxes (..., 4)."""
    return lambda numbers: paddle.gather(boxes.reshape([-1, 4]), numbers)


def test_grid_points_and_strides():
    # Two levels of a 16x32 image: strides 8 (2x4 cells) and 16 (1x2 cells).
    grid = make_grid([(2, 4), (1, 2)], [8, 16], 0.5)
    assert grid.counts == (8, 2)
    assert grid.points[0].tolist() == [4, 4]
    assert grid.points[1].tolist() == [12, 4]  # x runs first
    assert grid.points[4].tolist() == [4, 12]
    assert grid.points[9].tolist() == [24, 8]
    assert grid.cell_points[9].tolist() == [1.5, 0.5]
    assert grid.boxes(5.0)[8].tolist() == [8 - 40, 8 - 40, 8 + 40, 8 + 40]


def test_atss_takes_the_cell_that_is_the_object():
    # The object is cell 5 (x 8..16, y 8..16). Of its 4 nearest points only that cell overlaps it:
    # IoUs 1, 0, 0, 0; mean 0.25, deviation (n - 1) 0.5: threshold 0.75, so only cell 5 is positive.
    found = atss(truth([[8, 8, 16, 16]], [2], [1]))
    expected = np.full(16, CLASSES)
    expected[5] = 2
    assert found.labels.numpy()[0].tolist() == expected.tolist()
    assert found.boxes.numpy()[0, 5].tolist() == [8, 8, 16, 16]
    # The score to reach is the predicted box's IoU, here 1.
    assert found.quality.numpy()[0].tolist() == pytest.approx((expected == 2).astype(float).tolist())


def test_atss_score_is_the_iou_of_the_prediction():
    # Predicted box 8..16 x 8..12: half of the object, IoU 0.5.
    predicted = CELLS.clone()
    predicted[5] = paddle.to_tensor([8.0, 8, 16, 12])
    found = atss(truth([[8, 8, 16, 16]], [0], [1]), predicted=predicted)
    assert found.quality.numpy()[0, 5] == pytest.approx(0.5)


def test_atss_ignores_padding():
    found = atss(truth([[8, 8, 16, 16], [0, 0, 0, 0]], [2, 0], [1, 0]))
    assert (found.labels.numpy() < CLASSES).sum() == 1


def test_atss_topk_beyond_the_level_takes_all_cells():
    # 16 candidates: mean 1/16, deviation 0.25; cell 5 is above the threshold, the others at 0.
    found = atss(truth([[8, 8, 16, 16]], [1], [1]), topk=100)
    assert np.flatnonzero(found.labels.numpy()[0] < CLASSES).tolist() == [5]


def test_atss_without_objects_is_all_background():
    found = atss(truth([], [], []))
    assert found.labels.numpy().tolist() == [[CLASSES] * 16]
    assert found.quality.numpy().tolist() == [[0] * 16]


def test_atss_force_gives_every_object_a_point():
    # The object lies between four cells: IoU with each is 16 / (64 + 64 - 16) = 1/7, deviation 0,
    # threshold 1/7, none greater. Forced, it gets the first of the four, cell 0.
    objects = truth([[4, 4, 12, 12]], [1], [1])
    assert (atss(objects).labels.numpy() < CLASSES).sum() == 0
    forced = atss(objects, force_gt_matching=True)
    assert np.flatnonzero(forced.labels.numpy()[0] < CLASSES).tolist() == [0]


def test_point_of_two_objects_goes_to_the_greater_overlap():
    # Two images of 3 points. Point 0 of the second is claimed by objects 0 and 1, and 1 overlaps more; point 1 keeps
    # its only claim, by object 0, though 1 overlaps more. Point 2 of the first is claimed twice, and object 2, which
    # does not claim it, overlaps most.
    points, places = paddle.to_tensor([2, 3, 4, 3, 2]), paddle.to_tensor([0, 0, 0, 1, 1])
    overlaps = {2: [0.1, 0.3, 0.9], 3: [0.2, 0.4, 0.1], 4: [0.3, 0.9, 0.1]}

    def of_all(numbers):
        return paddle.to_tensor([overlaps[number] for number in numbers.tolist()])

    assert owners(points, places, 6, of_all).tolist() == [-1, -1, 2, 1, 0, -1]
    assert owners(points, places, 6, of_all, claimants_only=True).tolist() == [-1, -1, 1, 1, 0, -1]


def test_top_candidates_are_clamped():
    indices = top_candidates(paddle.to_tensor([[3.0, 1.0, 2.0]]), 9, largest=False)
    assert indices.tolist() == [[1, 2, 0]]


def aligned(objects, scores, boxes, topk=13):
    scores = paddle.to_tensor(scores, dtype="float32").unsqueeze(0)
    boxes = paddle.to_tensor(boxes, dtype="float32")
    return assign_task_aligned(POINTS, scores, at(boxes), *objects, topk=topk)


def test_task_aligned_prefers_score_times_overlap():
    # Object 8..24 x 8..16 holds points 5 (12, 12) and 6 (20, 12). Point 5 predicts it exactly with
    # score 0.5; point 6 predicts half of it (IoU 0.5) with score 0.9: 0.5 against 0.9 / 64.
    scores, boxes = np.full((16, CLASSES), 0.1), np.zeros((16, 4))
    scores[5, 1], scores[6, 1] = 0.5, 0.9
    boxes[5], boxes[6] = [8, 8, 24, 16], [16, 8, 24, 16]
    one = aligned(truth([[8, 8, 24, 16]], [1], [1]), scores, boxes, topk=1)
    assert np.flatnonzero(one.labels.numpy()[0] < CLASSES).tolist() == [5]
    # The best point's score is the best IoU, 1; the other's is scaled: 0.9 / 64 / 0.5.
    both = aligned(truth([[8, 8, 24, 16]], [1], [1]), scores, boxes, topk=2)
    assert both.quality.numpy()[0, 5] == pytest.approx(1, abs=1e-5)
    assert both.quality.numpy()[0, 6] == pytest.approx(0.9 / 64 / 0.5, abs=1e-5)


def test_task_aligned_leaves_points_outside_alone():
    # Point 0 (4, 4) predicts the object perfectly and surely, but lies outside it.
    scores, boxes = np.full((16, CLASSES), 0.9), np.tile([8.0, 8, 16, 16], (16, 1))
    found = aligned(truth([[8, 8, 16, 16]], [0], [1]), scores, boxes)
    assert np.flatnonzero(found.labels.numpy()[0] < CLASSES).tolist() == [5]


def test_task_aligned_without_objects_is_all_background():
    found = aligned(truth([], [], []), np.full((16, CLASSES), 0.5), np.zeros((16, 4)), topk=100)
    assert (found.labels.numpy() == CLASSES).all()
    padded = aligned(
        truth([[0, 0, 0, 0]], [0], [0]), np.full((16, CLASSES), 0.5), np.zeros((16, 4)), topk=100
    )
    assert (padded.labels.numpy() == CLASSES).all()
    assert float(padded.quality.sum()) == 0


def test_task_aligned_without_any_measure_is_all_background():
    # No prediction overlaps the object: of 4 points inside it none is better than one outside.
    found = aligned(truth([[8, 8, 24, 24]], [0], [1]), np.full((16, CLASSES), 0.5), np.zeros((16, 4)), topk=1)
    assert (found.labels.numpy() == CLASSES).sum() >= 15
    assert float(found.quality.sum()) == 0


def crowd(seed: int, objects: int):
    """Three images of 160 pixels with up to so many objects, many in one another: grid, scores, boxes, truth."""
    random = np.random.RandomState(seed)
    grid = make_grid([(20, 20), (10, 10), (5, 5), (3, 3)], [8, 16, 32, 64], 0.5)
    corner = random.rand(3, objects, 2) * 100 * (0.2 if seed % 2 else 1)
    gt_bbox = np.concatenate([corner, corner + 3 + random.rand(3, objects, 2) * 60], axis=-1)
    mask = (np.arange(objects) < random.randint(0, objects + 1, (3, 1)))[..., None]
    scores = random.rand(3, len(grid.points), CLASSES) ** 3
    sides = random.rand(3, len(grid.points), 4) * random.choice([4, 20, 80], (3, len(grid.points), 1))
    boxes = np.concatenate([grid.points - sides[..., :2], grid.points + sides[..., 2:]], axis=-1)
    gt_class = random.randint(0, CLASSES, (3, objects, 1)).astype("int32")
    return grid, scores.astype("float32"), boxes.astype("float32"), ((gt_bbox * mask).astype("float32"), gt_class,
            mask.astype("float32"))  # fmt: skip


def equal(found, expected, gt_bbox) -> int:
    """The number of points of objects, once all is as expected."""
    labels, objects, quality = expected
    assert np.array_equal(found.labels.numpy(), labels)
    image, point = np.nonzero(objects >= 0)
    assert np.array_equal(found.boxes.numpy()[image, point], gt_bbox[image, objects[image, point]])
    np.testing.assert_allclose(found.quality.numpy(), quality, rtol=2e-5, atol=1e-6)
    return len(image)


OPTIONS = {
    "plain": {},
    "inclusive": {"sm_use": True, "inclusive": True},
    "forced": {"topk": 3, "force_gt_matching": True},
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_atss_is_that_of_all_pairs(options, seed):
    grid, _, boxes, (gt_bbox, gt_class, mask) = crowd(seed, [3, 8, 25][seed % 3])
    anchors = grid.boxes(5.0)
    found = assign_atss(
        paddle.to_tensor(anchors), grid.counts, at(paddle.to_tensor(boxes)), paddle.to_tensor(gt_bbox),
        paddle.to_tensor(gt_class), paddle.to_tensor(mask), CLASSES, **options,
    )  # fmt: skip

    def one(image, real):
        return dense_assigners.atss(anchors, grid.counts, boxes[image], gt_bbox[image, real], **options)

    expected = dense_assigners.every_image(one, gt_class, mask, CLASSES, len(anchors))
    assert equal(found, expected, gt_bbox)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("options", [{}, {"topk": 3, "alpha": 2.0, "beta": 4.0}], ids=["published", "other"])
def test_task_aligned_is_that_of_all_pairs(options, seed):
    grid, scores, boxes, (gt_bbox, gt_class, mask) = crowd(seed, [3, 8, 25][seed % 3])
    found = assign_task_aligned(
        paddle.to_tensor(grid.points), paddle.to_tensor(scores), at(paddle.to_tensor(boxes)),
        paddle.to_tensor(gt_bbox), paddle.to_tensor(gt_class), paddle.to_tensor(mask), **options,
    )  # fmt: skip

    def one(image, real):
        own = gt_bbox[image, real], gt_class[image, real, 0]
        return dense_assigners.task_aligned(grid.points, scores[image], boxes[image], *own, **options)

    expected = dense_assigners.every_image(one, gt_class, mask, CLASSES, len(grid.points))
    assert equal(found, expected, gt_bbox)
