"""Each transform against values worked out by hand, or computed another way with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from picoquant.data.transforms.crop import RandomCrop, crop
from picoquant.data.transforms.distort import (
    RandomDistort,
    brightness_matrix,
    contrast_matrix,
    hue_matrix,
    saturation_matrix,
)
from picoquant.data.transforms.flip import RandomFlip
from picoquant.data.transforms.hsv import AugmentHSV, apply_hsv_table, shift_table
from picoquant.data.transforms.normalize import NormalizeImage, Permute
from picoquant.data.transforms.pad import PadBatch, pad_ground_truth
from picoquant.data.transforms.resize import BatchRandomResize, Resize
from picoquant.data.transforms.sample import Sample


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def sample(height: int = 40, width: int = 60, boxes=((10, 5, 30, 20),)) -> Sample:
    image = noise(height, width)
    image.flags.writeable = False  # as decoded images are: whoever writes into one fails
    return Sample(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.arange(len(boxes), dtype=np.int32),
        im_shape=(float(height), float(width)),
    )


def test_resize_stretches_to_the_target():
    result = Resize([80, 30], keep_ratio=False, interp=2)(sample(), rng())
    expected = cv2.resize(noise(40, 60), (30, 80), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(result.image, expected)
    # y twice as large, x half
    assert result.boxes.tolist() == [[5, 10, 15, 40]]
    assert (result.scale_factor, result.im_shape) == ((2.0, 0.5), (80.0, 30.0))


def test_resize_keeps_the_ratio():
    # short side 40 may become 80, long side 60 only 90: 1.5 times
    result = Resize([80, 90], keep_ratio=True)(sample(), rng())
    assert result.image.shape == (60, 90, 3)
    assert result.scale_factor == (1.5, 1.5)
    assert result.boxes.tolist() == [[15, 7.5, 45, 30]]


def test_resize_to_the_same_size_keeps_the_pixels():
    result = Resize([40, 60], keep_ratio=False, interp=4)(sample(), rng())
    assert np.array_equal(result.image, noise(40, 60))


def test_batch_resize_gives_all_images_one_size_and_draws_all():
    resize = BatchRandomResize([32, [64, 96]], keep_ratio=False, random_size=True, random_interp=True)
    seen = set()
    for seed in range(20):
        shapes = {item.image.shape for item in resize([sample(), sample(20, 20)], rng(seed))}
        assert len(shapes) == 1
        seen |= shapes
    assert seen == {(32, 32, 3), (64, 96, 3)}


def test_batch_resize_to_a_fixed_size():
    resize = BatchRandomResize([64, 96], keep_ratio=False, random_size=False, interp=1)
    (result,) = resize([sample()], rng())
    assert np.array_equal(result.image, cv2.resize(noise(40, 60), (96, 64)))


def test_flip_mirrors_image_and_boxes():
    result = RandomFlip(1.0)(sample(), rng())
    assert np.array_equal(result.image, noise(40, 60)[:, ::-1])
    # width 60: 10..30 becomes 30..50
    assert result.boxes.tolist() == [[30, 5, 50, 20]]


def test_flip_with_probability_zero_does_nothing():
    assert np.array_equal(RandomFlip(0.0)(sample(), rng()).image, noise(40, 60))


def test_crop_keeps_objects_whose_centre_is_inside():
    # Centres (20, 12.5) and (50, 35); the window is x 15..55, y 10..30: only the first is inside.
    result = crop(sample(boxes=[(10, 5, 30, 20), (45, 30, 55, 40)]), (15, 10, 55, 30))
    assert np.array_equal(result.image, noise(40, 60)[10:30, 15:55])
    assert result.boxes.tolist() == [[0, 0, 15, 10]]
    assert result.classes.tolist() == [0]
    assert result.im_shape == (20.0, 40.0)


def test_random_crop_always_keeps_an_object():
    crops = [RandomCrop(allow_no_crop=False)(sample(), rng(seed)) for seed in range(30)]
    assert all(len(result.boxes) == 1 for result in crops)
    assert len({result.image.shape for result in crops}) > 10
    for result in crops:
        height, width = result.image.shape[:2]
        assert (result.boxes >= 0).all()
        assert (result.boxes[:, 2:] <= (width, height)).all()


def test_random_crop_leaves_images_without_objects():
    assert RandomCrop()(sample(boxes=[]), rng()).image.shape == (40, 60, 3)


def test_random_crop_meets_its_threshold():
    boxes = [(10, 5, 50, 35)]
    for seed in range(10):
        crop_of = RandomCrop(thresholds=[0.7], allow_no_crop=False)
        result = crop_of(sample(boxes=boxes), rng(seed))
        height, width = result.image.shape[:2]
        x1, y1, x2, y2 = result.boxes[0]
        shared = (x2 - x1) * (y2 - y1)
        assert shared / (height * width + 40 * 30 - shared) >= 0.7 - 1e-6


def test_hsv_shift_of_known_colours():
    # Pure red is hue 0, saturation 255, value 255. Hue + 60 (of 180) is green; value - 55 gives 200.
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    shifted = apply_hsv_table(red, shift_table(np.array([60.0, 0.0, -55.0])), is_bgr=False)
    assert shifted.tolist() == [[[0, 200, 0]]]
    # Read as BGR, (255, 0, 0) is blue: hue 120 + 60 is red, which in BGR is the last channel.
    shifted = apply_hsv_table(red, shift_table(np.array([60.0, 0.0, 0.0])), is_bgr=True)
    assert shifted.tolist() == [[[0, 0, 255]]]


def test_hsv_table_turns_hue_round_and_clips_the_rest():
    table = shift_table(np.array([-5.5, 30.0, -30.0]))[0]
    assert table[0].tolist() == [174, 30, 0]  # -5.5 mod 180 = 174.5, cut
    assert table[250].tolist()[1:] == [255, 220]


@pytest.mark.parametrize("params", [{"hgain": 5, "sgain": 30, "vgain": 30}, {"fraction": 0.5}])
def test_hsv_changes_colours_and_no_boxes(params):
    results = [AugmentHSV(is_bgr=False, **params)(sample(), rng(seed)) for seed in range(8)]
    assert all(result.image.dtype == np.uint8 for result in results)
    assert any(not np.array_equal(result.image, noise(40, 60)) for result in results)
    assert all(result.boxes.tolist() == [[10, 5, 30, 20]] for result in results)


def test_distort_matrices_on_one_pixel():
    pixel = np.array([100.0, 50.0, 200.0, 1.0])
    assert (brightness_matrix(1.5) @ pixel)[:3].tolist() == [101.5, 51.5, 201.5]
    assert (contrast_matrix(0.5) @ pixel)[:3].tolist() == [50, 25, 100]
    # grey = 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05; half way between
    assert np.allclose((saturation_matrix(0.5) @ pixel)[:3], [91.025, 66.025, 141.025])
    # No turn: YIQ and back, equal but for the rounded coefficients.
    assert np.allclose((hue_matrix(0.0) @ pixel)[:3], pixel[:3], atol=0.5)
    # A whole turn is two half circles.
    assert np.allclose(hue_matrix(2.0), hue_matrix(0.0))


def test_distort_is_the_product_of_its_steps():
    params = {"hue": [0, 0, 1.0], "saturation": [1, 1, 1.0]}  # probability 1 of leaving them out
    distort = RandomDistort(brightness=[10, 10, 0.0], contrast=[2, 2, 0.0], random_apply=False, **params)
    result = distort(sample(), rng())
    assert result.image.dtype == np.float32
    assert np.allclose(result.image, (noise(40, 60).astype(np.float32) + 10) * 2)  # not clipped


def test_distort_swaps_channels_at_random():
    nothing = [0, 0, 1.0]
    distort = RandomDistort(nothing, nothing, nothing, nothing, random_apply=False, random_channel=True)
    means = {tuple(distort(sample(), rng(seed)).image[0, 0]) for seed in range(40)}
    assert means >= {tuple(noise(40, 60)[0, 0]), tuple(noise(40, 60)[0, 0][[2, 1, 0]])}


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_normalize_and_permute(kind):
    item = sample()
    item.image = item.image.astype(kind)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    result = Permute()(NormalizeImage(mean, std, is_scale=True)(item, rng()), rng())
    assert (result.image.shape, result.image.dtype) == ((3, 40, 60), np.float32)
    assert result.image.flags.c_contiguous
    expected = (noise(40, 60) / 255 - mean) / std
    assert np.allclose(result.image, expected.transpose(2, 0, 1), atol=1e-6)


def test_normalize_without_mean_or_scale():
    result = NormalizeImage([0, 0, 0], [1, 1, 1], is_scale=False)(sample(), rng())
    assert np.array_equal(result.image, noise(40, 60).astype(np.float32))
    result = NormalizeImage(is_scale=True, norm_type="none")(sample(), rng())
    assert np.array_equal(result.image, noise(40, 60).astype(np.float32) * np.float32(1 / 255))


def test_pad_batch_to_the_largest_and_the_stride():
    small = Permute()(sample(20, 30), rng())
    large = Permute()(sample(33, 25), rng())
    results = PadBatch(32)([small, large], rng())
    assert [result.image.shape for result in results] == [(3, 64, 32)] * 2
    assert np.array_equal(results[0].image[:, :20, :30], noise(20, 30).transpose(2, 0, 1))
    assert results[0].image[:, 20:].sum() == 0 == results[0].image[:, :, 30:].sum()


def test_ground_truth_is_padded_and_masked():
    padded = pad_ground_truth([sample(boxes=[]), sample(boxes=[(1, 2, 3, 4), (5, 6, 7, 8)])])
    assert padded["gt_bbox"].tolist() == [[[0] * 4] * 2, [[1, 2, 3, 4], [5, 6, 7, 8]]]
    assert padded["gt_class"].tolist() == [[[0], [0]], [[0], [1]]]
    assert padded["pad_gt_mask"].tolist() == [[[0], [0]], [[1], [1]]]


def test_batch_without_objects_has_one_masked_row():
    padded = pad_ground_truth([sample(boxes=[])])
    assert padded["gt_bbox"].shape == (1, 1, 4)
    assert padded["pad_gt_mask"].sum() == 0
