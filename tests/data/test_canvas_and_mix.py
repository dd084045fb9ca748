"""Pad, RandomExpand, RandomResize, Mixup and Cutmix, by hand; their values equal PaddleDetection's on noise."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.data.settings import ReaderSettings
from picoquant.data.transforms.canvas import Pad, RandomExpand
from picoquant.data.transforms.mix import Cutmix, Mixup, cut_in, mixed, window
from picoquant.data.transforms.resize import RandomResize
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError


def rng(seed=0):
    return np.random.default_rng(seed)


def plain(height, width, level, box=(1, 2, 5, 6), kind=np.uint8, label=0):
    image = np.full((height, width, 3), level, kind)
    return Sample(image, boxes=np.float32([box]), classes=np.array([label], np.int32), path="x.png")


@pytest.mark.parametrize(
    ("params", "shape", "corner"),
    [
        ({"size": [20, 30], "pad_mode": 0}, (20, 30), (0, 0)),
        ({"size": [21, 30], "pad_mode": 1}, (21, 30), (5, 9)),  # 11 and 18 are left over
        ({"size": [20, 30], "pad_mode": 2}, (20, 30), (10, 18)),
        ({"size": [20, 30], "pad_mode": -1, "offsets": [3, 7]}, (20, 30), (7, 3)),
        ({"size_divisor": 8}, (16, 16), (0, 0)),
    ],
)
def test_pad(params, shape, corner):
    result = Pad(fill_value=[114, 0, 255], **params)(plain(10, 12, 9), rng())
    top, left = corner
    assert result.image.shape == (*shape, 3) and result.image.dtype == np.uint8
    assert (result.image[top : top + 10, left : left + 12] == 9).all()
    outside = np.ones(shape, bool)
    outside[top : top + 10, left : left + 12] = False
    assert (result.image[outside] == [114, 0, 255]).all()
    assert result.boxes.tolist() == [[1 + left, 2 + top, 5 + left, 6 + top]]
    assert result.im_shape == shape


def test_pad_keeps_a_colour_that_uint8_has_not():
    result = Pad(size=[16, 16])(plain(10, 12, 9), rng())
    assert result.image.dtype == np.float32 and result.image[15, 15].tolist() == [127.5] * 3


def test_an_image_that_is_too_large_is_named():
    with pytest.raises(ConfigError, match="the image x.png is 40x12 .* does not fit into 20x30"):
        Pad(size=[20, 30])(plain(40, 12, 9), rng())


def test_expand():
    assert RandomExpand(prob=1.0)(plain(10, 12, 9), rng()).image.shape == (10, 12, 3)
    seen = set()
    for seed in range(60):
        result = RandomExpand(ratio=3, prob=0.0, fill_value=[1, 2, 3])(plain(10, 12, 9), rng(seed))
        x1, y1, x2, y2 = result.boxes[0].astype(int)
        high, wide = result.image.shape[:2]
        assert high < 30 and wide < 36 and abs(wide / high - 1.2) < 0.2
        assert (x2 - x1, y2 - y1) == (4, 4)
        # The image lies where its box says: 1 to the right and 2 down from its corner.
        inner = result.image[y1 - 2 : y1 + 8, x1 - 1 : x1 + 11]
        assert (inner == 9).all() and (result.image == 9).sum() == 360
        seen.add((high, wide))
    assert len(seen) > 10


def test_random_resize_keeps_the_ratio_by_default_and_draws_a_range():
    assert RandomResize([[20, 24]], interp=0)(plain(10, 12, 9), rng()).image.shape == (20, 24, 3)
    sizes = {
        RandomResize([[20, 90], [24, 90]], random_range=True)(plain(10, 12, 9), rng(s)).image.shape[0]
        for s in range(40)
    }
    assert sizes == {20, 21, 22, 23, 24}
    # The long side may be 91, as in PaddleDetection: of 10x100 that is 9 rows.
    assert RandomResize([[20, 90], [24, 90]], random_range=True)(plain(10, 100, 9), rng()).image.shape == (
        9,
        91,
        3,
    )
    with pytest.raises(ConfigError, match="smallest short side"):
        RandomResize([[20, 90]], random_range=True)


def test_mixed_by_hand():
    result = mixed(plain(10, 12, 100), plain(8, 20, 50, (0, 0, 3, 3), label=2), 0.25)
    assert result.image.shape == (10, 20, 3) and result.image.dtype == np.uint8
    # 25 + 37.5, cut off; only the first; only the second; none
    assert [result.image[at][0] for at in ((0, 0), (9, 0), (0, 15), (9, 15))] == [62, 25, 37, 0]
    assert result.boxes.tolist() == [[1, 2, 5, 6], [0, 0, 3, 3]] and result.classes.tolist() == [0, 2]
    assert result.im_shape == (10, 20)


def test_mixed_colours_outside_0_to_255_do_not_wrap_round():
    result = mixed(plain(4, 4, 300.0, kind=np.float32), plain(4, 4, 280.0, kind=np.float32), 0.5)
    assert (result.image == 255).all()


def test_a_part_of_one_in_the_other():
    # 1 - 0.64 of 10x20 is 0.6 of each side, 6x12, around (10, 4): x 4 to 16, y 1 to 7.
    assert window(0.64, (10, 20), (10, 4)) == (4, 1, 16, 7)
    assert window(0.64, (10, 20), (1, 9)) == (0, 6, 7, 9)  # clipped to 19 and 9
    result = cut_in(plain(10, 12, 100), plain(8, 20, 50, label=1), (4, 1, 16, 7))
    assert (result.image[1:7, 4:16] == 50).all() and (result.image[0, :12] == 100).all()
    assert (result.image[:, 16:] == 0).all() and (result.image == 50).sum() == 6 * 12 * 3
    assert result.classes.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [Mixup, Cutmix])
def test_the_second_image_is_drawn_once(kind):
    drawn = []

    def another():
        drawn.append(1)
        return plain(8, 20, 50)

    result = kind()(plain(10, 12, 100), rng(), another)
    assert len(drawn) == 1 and result.image.shape == (10, 20, 3) and len(result.boxes) == 2
    with pytest.raises(ConfigError, match="beta must be greater than 0"):
        kind(beta=0)


def reader(steps, batch=(), **keys):
    section = {"sample_transforms": [{"Decode": {}}, *steps], "batch_transforms": list(batch), **keys}
    return ReaderSettings.from_mapping(section, "TrainReader")


def test_one_of_the_three_works_in_an_epoch():
    steps = [{"Mosaic": {}}, {"Mixup": {}}, {"Cutmix": {}}]
    settings = reader(steps, mixup_epoch=2, cutmix_epoch=4, mosaic_epoch=0)
    assert [settings.working(epoch) for epoch in range(6)] == ["Mixup"] * 2 + ["Cutmix"] * 2 + ["Mosaic"] * 2
    assert reader([{"Mosaic": {}}], mosaic_epoch=1).working(1) is None
    assert settings.idle == []


@pytest.mark.parametrize(
    ("epochs", "idle"),
    [
        ({"mosaic_epoch": 6, "mixup_epoch": 2, "cutmix_epoch": 4}, []),
        ({"mosaic_epoch": 4, "mixup_epoch": 6}, ["cutmix_epoch -1", "mosaic_epoch 4"]),
        ({"mosaic_epoch": 4, "mixup_epoch": 0, "cutmix_epoch": 9}, ["cutmix_epoch 9", "mosaic_epoch 4"]),
        ({"mosaic_epoch": 0, "mixup_epoch": 3, "cutmix_epoch": 3}, ["cutmix_epoch 3"]),
        ({}, ["mixup_epoch -1", "cutmix_epoch -1", "mosaic_epoch -1"]),
    ],
)
def test_what_works_in_no_epoch_is_known(epochs, idle):
    made = reader([{"Mosaic": {}}, {"Mixup": {}}, {"Cutmix": {}}], **epochs)
    assert made.idle == idle
    on = {made.working(epoch) for epoch in range(12)}
    assert {key.split("_")[0].capitalize() for key in idle} == {"Mosaic", "Mixup", "Cutmix"} - on


KEEP = {"keep_ratio": True, "target_size": [64, 96]}


@pytest.mark.parametrize(
    ("steps", "batch", "keys", "said"),
    [
        ([], [], {"mixup_epoch": 5}, "TrainReader.mixup_epoch is 5, but sample_transforms has no Mixup"),
        ([{"Mixup": {}}], [{"Mixup": {}}], {"mixup_epoch": 5}, "Mixup belongs into sample_transforms"),
        (
            [{"NormalizeImage": {}}, {"Mixup": {}}],
            [],
            {"mixup_epoch": 5},
            "Mixup works on colours of 0 to 255",
        ),
        ([{"Cutmix": {}}, {"Cutmix": {}}], [], {"cutmix_epoch": 5}, "more than one Cutmix"),
        ([{"Resize": KEEP}], [], {}, "Resize with keep_ratio leaves images of different sizes"),
        (
            [{"RandomResize": {"target_size": [64, 96]}}],
            [{"PadBatch": {}}],
            {},
            "RandomResize with keep_ratio leaves",
        ),
        ([{"Resize": KEEP}, {"Pad": {}}], [], {}, "Resize with keep_ratio leaves images of different sizes"),
        ([{"Resize": KEEP}, {"Pad": {"size_divisor": 20}}], [], {}, "add PadBatch: .pad_to_stride: 32."),
        (
            [{"NormalizeBox": {}}],
            [],
            {},
            "NormalizeBox of PaddleDetection is not supported .boxes in the form",
        ),
        (
            [],
            [{"Gt2YoloTarget": {}}],
            {},
            "Gt2YoloTarget of PaddleDetection is not supported .targets of another",
        ),
    ],
)
def test_what_does_not_go_together(steps, batch, keys, said):
    with pytest.raises(ConfigError, match=said):
        reader(steps, batch, **keys)


def test_a_mixup_that_is_never_done_is_said(caplog):
    reader([{"Mixup": {}}])
    assert (
        "Mixup is never done, as in PaddleDetection: mixup_epoch says before which epoch it is" in caplog.text
    )
    caplog.clear()
    reader([{"Mixup": {}}], mixup_epoch=-1)
    assert not caplog.text


def test_what_makes_one_size_of_a_batch():
    resize = {"Resize": {"target_size": 64, "keep_ratio": True}}
    assert reader([resize], [{"PadBatch": {"pad_to_stride": 32}}])
    assert reader([resize, {"Pad": {}}], [{"PadBatch": {}}])
    assert reader([resize, {"Pad": {"size": 64}}])
    assert reader([resize], [{"Resize": {"target_size": 64, "keep_ratio": False}}])
    ranged = {"RandomResize": {"target_size": [[32, 64], [48, 64]], "random_range": True}}
    with pytest.raises(ConfigError, match="of up to 48x65, which do not fit into Pad's 64x64"):
        reader([ranged, {"Pad": {"size": 64}}])
    assert reader([ranged, {"Pad": {"size": 96}}])
    assert reader([{"RandomResize": {"target_size": [64, 80, 96]}}, {"Pad": {"size": 96}}])
    one = {"target_size": [80, 96], "random_size": False}
    assert reader([{"RandomResize": one}, {"Pad": {"size": [96, 96]}}])
    with pytest.raises(ConfigError, match="Pad.size 65x65: the network takes multiples of 32"):
        reader([ranged, {"Pad": {"size": 65}}])
