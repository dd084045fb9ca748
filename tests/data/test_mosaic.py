"""Mosaic: placement, geometry and blending worked out by hand."""

from __future__ import annotations

import numpy as np

from picoquant.data.transforms.mosaic import Blend, Layout, Mosaic, compose, warp_boxes
from picoquant.data.transforms.sample import Sample

COLOURS = (10, 20, 30, 40, 50)


def plain(colour: int, height: int = 50, width: int = 50, boxes=((10, 20, 30, 40),)) -> Sample:
    """An image of one colour, its class the colour."""
    return Sample(
        image=np.full((height, width, 3), colour, np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.full(len(boxes), colour, np.int32),
    )


def layout(blend: Blend | None = None, **changes) -> Layout:
    values = {"centre_y": 100, "centre_x": 100, "degree": 0, "scale": 0.5, "shear": 0, "shift": 0}
    return Layout(**{**values, **changes}, blend=blend)


def test_four_images_meet_at_the_centre():
    # Result 100 x 100, canvas 200 x 200, images 50 x 50 become 100 x 100, halved by the scale.
    result = compose([plain(colour) for colour in COLOURS[:4]], None, layout(), (100, 100))
    assert result.image.shape == (100, 100, 3)
    corners = [result.image[y, x, 0] for y, x in ((20, 20), (20, 80), (80, 20), (80, 80))]
    assert corners == [10, 20, 30, 40]
    # 10, 20, 30, 40 of each image: doubled, laid out, halved: moved by 0 or 50.
    assert result.boxes.tolist() == [
        [10, 20, 30, 40],
        [60, 20, 80, 40],
        [10, 70, 30, 90],
        [60, 70, 80, 90],
    ]
    assert result.classes.tolist() == [10, 20, 30, 40]
    assert result.im_shape == (100.0, 100.0)


def test_ratio_is_kept_and_the_rest_is_grey():
    # 25 x 50 fits as 50 x 100: it lies on rows 50..100 of the canvas, 25..50 after halving.
    wide = plain(10, height=25, boxes=[(0, 0, 50, 25)])
    result = compose([wide, *(plain(c) for c in COLOURS[1:4])], None, layout(), (100, 100))
    assert result.image[10, 20, 0] == 114
    assert result.image[40, 20, 0] == 10
    assert result.boxes[0].tolist() == [0, 25, 50, 50]


def test_boxes_that_leave_the_result_go():
    # Scale 1: only the upper left quarter of the canvas is seen, which is the first image.
    result = compose([plain(c) for c in COLOURS[:4]], None, layout(scale=1.0), (100, 100))
    assert result.classes.tolist() == [10]
    assert result.boxes.tolist() == [[20, 40, 60, 80]]


def test_quarter_turn_of_a_box():
    # 90 degrees about the corner takes (x, y) to (y, -x); + 100 in y: boxes from (2..4, 10..30)
    matrix = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 100.0]])
    boxes = warp_boxes(np.array([[2, 10, 4, 30]], np.float32), matrix, (100, 100))
    assert boxes.tolist() == [[10, 96, 30, 98]]


def test_blending_adds_the_fifth_at_half_strength():
    blend = Blend(scale=0.5, flip=False, offset_y=0, offset_x=0)
    fifth = plain(51, boxes=[(10, 20, 30, 40)])
    result = compose([plain(c) for c in COLOURS[:4]], fifth, layout(blend), (100, 100))
    # 50 x 50 fits 100 x 100, then halved: covers the upper left 50 x 50; (10 + 51) / 2 = 30.5, cut.
    assert result.image[20, 20, 0] == 30
    assert result.image[80, 80, 0] == 20  # beyond it is black: 40 / 2
    assert result.boxes[-1].tolist() == [10, 20, 30, 40]
    assert result.classes[-1] == 51


def test_blending_flips_and_moves():
    blend = Blend(scale=1.5, flip=True, offset_y=0.5, offset_x=1.0)
    fifth = plain(50, boxes=[(10, 20, 30, 40)])
    result = compose([plain(c) for c in COLOURS[:4]], fifth, layout(blend), (100, 100))
    # Three times as large: 30, 60, 90, 120 of 150; mirrored 60, 60, 120, 120; the window starts at
    # x = 50 (all the room), y = 25 (half of it).
    assert result.boxes[-1].tolist() == [10, 35, 70, 95]


def test_nothing_is_blended_over_a_mosaic_without_objects():
    blend = Blend(scale=1.0, flip=False, offset_y=0, offset_x=0)
    empty = [plain(c, boxes=[]) for c in COLOURS[:4]]
    result = compose(empty, plain(50), layout(blend), (100, 100))
    assert len(result.boxes) == 0
    assert result.image[20, 20, 0] == 10


def test_mosaic_draws_only_what_it_needs():
    drawn = []

    def another() -> Sample:
        drawn.append(1)
        return plain(7)

    mosaic = Mosaic(prob=0.0)
    assert mosaic(plain(9), np.random.default_rng(0), another).image[0, 0, 0] == 9
    assert not drawn
    Mosaic(prob=1.0, input_dim=64, enable_mixup=False)(plain(9), np.random.default_rng(0), another)
    assert len(drawn) == 3


def test_mosaic_is_the_same_for_the_same_generator():
    mosaic = Mosaic(input_dim=[64, 96])
    first, second = (
        mosaic(plain(9), np.random.default_rng(4), lambda: plain(7, boxes=[(0, 0, 50, 50)])) for _ in "ab"
    )
    assert first.image.shape == (64, 96, 3)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.boxes, second.boxes)
    assert ((first.boxes[:, 2:] - first.boxes[:, :2]) > 0).all()
