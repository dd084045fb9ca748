"""AutoAugment's operations by hand. On noise their pixels equal PaddleDetection's, all but 0.2 % of turned ones."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.data.transforms.autoaugment import AutoAugment, colours, geometry
from picoquant.data.transforms.autoaugment.transform import POLICIES, apply, in_box
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError

SIZE = (40, 60)
BOXES = np.float32([[10, 5, 30, 20], [50, 30, 60, 40]])


def rng(seed=0):
    return np.random.default_rng(seed)


def noise():
    return rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def test_moved():
    image = geometry.translate(noise(), 12, 0)
    assert np.array_equal(image[:, :48], noise()[:, 12:]) and (image[:, 48:] == 128).all()
    boxes = geometry.translate_boxes(BOXES, 12, 0, SIZE)
    assert boxes.tolist() == [[0, 5, 18, 20], [38, 30, 48, 40]]
    # 25 down: nothing of the second is left, which is then a strip at the border, a twentieth of the height.
    assert geometry.translate_boxes(BOXES, -25, 1, SIZE).tolist() == [[10, 30, 30, 40], [50, 38, 60, 40]]


def test_slanted():
    image = geometry.shear(noise(), 0.5, 0)
    # Row 10 takes its pixels 0.5 * 10.5 further on: of column 20 those of column floor(20.5 + 5.25).
    assert np.array_equal(image[10, 20], noise()[10, 25])
    # y 5 and 20: x 10 and 30 less 2.5 and 10.
    assert geometry.shear_boxes(BOXES[:1], 0.5, 0, SIZE).tolist() == [[0, 5, 27, 20]]
    assert geometry.shear_boxes(BOXES[:1], 0.5, 1, SIZE).tolist() == [[10, 0, 30, 15]]


def test_turned():
    image = geometry.rotate(noise(), 180)
    assert np.array_equal(image, noise()[::-1, ::-1])
    assert np.allclose(geometry.rotate_boxes(BOXES, 180, SIZE), [[30, 20, 50, 35], [0, 0, 10, 10]], atol=1)
    # Counterclockwise: what is right of the centre goes up.
    assert np.allclose(
        geometry.rotate_boxes(np.float32([[40, 18, 44, 22]]), 90, SIZE), [[28, 6, 32, 10]], atol=1
    )
    assert np.array_equal(geometry.rotate(noise(), 90)[8, 30], noise()[20, 41])


def test_colours():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = 100, 50, 200
    assert colours.brightness(image, 1.9)[0, 0].tolist() == [190, 95, 255]
    # Grey of red and blue exchanged: 0.114 * 100 + 0.587 * 50 + 0.299 * 200 = 100.55.
    assert colours.colour(image, 0.0)[0, 0].tolist() == [101, 101, 101]
    # Pillow's grey is 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82; the mean 41.
    assert colours.contrast(image, 0.0)[0, 0].tolist() == [41, 41, 41]
    assert colours.solarize_add(image, 88)[0, 0].tolist() == [188, 138, 200]
    assert colours.sharpness(image, 1.0).tolist() == image.tolist()
    steps = np.repeat(np.arange(3, dtype=np.uint8), 255)[:, None, None].repeat(3, 2)
    # 765 pixels less the last level's 255 are 510, in steps of 2: (0, 255, 510 + 1) / 2.
    assert [int(value) for value in np.unique(colours.equalize(steps))] == [0, 128, 255]


def test_a_box_is_changed_and_nothing_else():
    changed = in_box(noise(), BOXES[0], np.fliplr)
    assert np.array_equal(changed[5:21, 10:31], noise()[5:21, 10:31][:, ::-1])
    outside = np.ones(SIZE, bool)
    outside[5:21, 10:31] = False
    assert np.array_equal(changed[outside], noise()[outside])


@pytest.mark.parametrize("name", sorted({name for pair in POLICIES["v1"] for name, _, _ in pair}))
def test_every_operation(name):
    seen = []
    for seed in range(8):
        image, boxes = apply(name, noise(), BOXES, 3.0, 8, rng(seed))
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        assert boxes.shape == (2, 4) and (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0 and (boxes <= [60, 40, 60, 40]).all()
        seen.append(not np.array_equal(image, noise()))
    assert any(seen)


def test_half_of_the_time():
    changed = [
        not np.array_equal(
            AutoAugment()(Sample(noise(), boxes=BOXES, classes=np.zeros(2, int)), rng(seed)).image, noise()
        )
        for seed in range(200)
    ]
    assert 0.5 < np.mean(changed) < 0.8  # one of two, each half of the time, some of them in boxes
    empty = Sample(noise())
    assert AutoAugment("v0")(empty, rng()) is empty
    with pytest.raises(ConfigError, match="autoaug_type"):
        AutoAugment("v2")
