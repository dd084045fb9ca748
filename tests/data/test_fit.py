"""Images made to fit into one size: what is resized to what, where it lies, what its padding is, where boxes are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from picoquant.data.preparation import tell_other_shapes
from picoquant.data.settings import ReaderSettings
from picoquant.data.transforms.fit import FillInput, FitResize, LetterBoxResize, fitting, offset
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.paddle_program.infer_config import InferConfig, padding_values
from picoquant.paddle_program.network_input import feed_of_image

RNG = np.random.default_rng(0)
PHOTO = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "size", "expected"),
    [
        ((213, 320), (416, 416), (277, 416)),  # 213 * 1.3 = 276.9
        ((320, 213), (416, 416), (416, 277)),
        ((333, 100), (320, 320), (320, 96)),  # 96.1
        ((400, 600), (96, 160), (96, 144)),  # by the height: 0.24, not 0.2667
        ((600, 400), (96, 160), (96, 64)),  # upright, where PaddleDetection's would be 160 high
        ((5, 2000), (64, 64), (1, 64)),  # 0.16 pixels
        ((64, 64), (64, 64), (64, 64)),
    ],
)
def test_sizes(image, size, expected):
    assert fitting(image, size) == expected


def test_where_the_padding_is():
    assert offset((277, 416), (416, 416), "end") == (0, 0)
    assert offset((277, 416), (416, 416), "centre") == (69, 0)  # of 139 rows the odd one is below
    assert offset((277, 416), (416, 416), "start") == (139, 0)


@pytest.mark.parametrize(("place", "top"), [("end", 0), ("centre", 16), ("start", 32)])
def test_an_input_and_the_way_back(place, top):
    config = InferConfig((96, 96), ("a",), (0.5,) * 3, (0.25,) * 3, True, 1, True, place, (51.0, 0.0, 255.0))
    feed = feed_of_image(PHOTO, config)  # 40x60 becomes 64x96
    image = feed["image"][0]
    resized = cv2.resize(PHOTO, (96, 64), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    assert np.allclose(image[:, top : top + 64], (resized / 255 - 0.5) / 0.25, atol=1e-5)
    padding = np.delete(image, np.s_[top : top + 64], axis=1)
    assert padding.shape == (3, 32, 96)
    assert np.allclose(padding, np.array([-1.2, -2.0, 2.0])[:, None, None])  # (51 / 255 - 0.5) / 0.25
    assert np.allclose(padding_values(config), (-1.2, -2.0, 2.0))
    assert np.allclose(feed["scale_factor"], [[1.6, 1.6]]) and feed["im_shape"].tolist() == [[64, 96]]
    assert ("pad_offset" in feed) == (top > 0) and (not top or feed["pad_offset"].tolist() == [[top, 0]])


def test_without_a_colour_padding_is_0_after_normalisation():
    config = InferConfig((64, 96), ("a",), (0.5,) * 3, (0.25,) * 3, True, 2, True)
    image = feed_of_image(PHOTO[:, :20], config)["image"][0]  # 40x20 becomes 64x32
    assert (image[:, :, 32:] == 0).all() and (image[:, :, :32] != 0).all()
    assert padding_values(config) == (0, 0, 0)


def test_letterbox_moves_boxes():
    boxes, classes = np.float32([[6, 10, 30, 40]]), np.zeros(1, np.int32)
    result = LetterBoxResize(96)(Sample(PHOTO, boxes=boxes, classes=classes), RNG)
    assert result.image.shape == (96, 96, 3) and result.image.dtype == np.uint8
    assert (result.image[:16] == 128).all() and (result.image[80:] == 128).all()
    assert np.array_equal(result.image[16:80], cv2.resize(PHOTO, (96, 64), interpolation=cv2.INTER_AREA))
    assert np.allclose(result.boxes, [[9.6, 32, 48, 80]])  # 10 * 1.6 + 16


def reader(steps, batch=(), section="EvalReader", **keys):
    values = {"sample_transforms": [{"Decode": {}}, *steps], "batch_transforms": list(batch), **keys}
    return ReaderSettings.from_mapping(values, section)


FIT = {"Resize": {"target_size": [96, 96], "keep_ratio": True, "interp": 1}}
PAD = {"Pad": {"size": [96, 96], "pad_mode": 1, "fill_value": 114}}
NORMAL = [{"NormalizeImage": {"mean": [0.5] * 3, "std": [0.25] * 3}}, {"Permute": {}}]


@pytest.mark.parametrize(
    ("steps", "batch", "expected"),
    [
        ([FIT, *NORMAL], [{"PadBatch": {"pad_to_stride": 32}}], (1, "end", None)),
        ([FIT, *NORMAL], [], (1, "end", None)),
        ([FIT, PAD, *NORMAL], [], (1, "centre", (114.0,) * 3)),
        ([FIT, NORMAL[0], {"Pad": {"size_divisor": 32, "fill_value": 0}}, NORMAL[1]], [], (1, "end", None)),
        ([{"LetterBoxResize": {"target_size": 96}}, *NORMAL], [], (3, "centre", (128.0,) * 3)),
    ],
)
def test_all_ways_to_write_it_give_the_input_of_the_export(steps, batch, expected):
    settings = reader(steps, batch)
    made = settings.preparation
    assert (made.interp, made.padding, made.fill) == expected and made.keep_ratio
    samples, batches = settings.build()
    sample = Sample(PHOTO, im_shape=(40.0, 60.0))
    for transform in samples[1:]:
        sample = transform(sample, RNG)
    assert batches == []
    config = InferConfig(
        (96, 96), ("a",), (0.5,) * 3, (0.25,) * 3, True, made.interp, True, made.padding, made.fill
    )
    feed = feed_of_image(PHOTO, config)
    assert np.array_equal(sample.image, feed["image"][0]) and sample.image.shape == (3, 96, 96)
    assert np.allclose(sample.scale_factor, feed["scale_factor"][0])
    assert sample.pad_offset == tuple(feed.get("pad_offset", np.zeros((1, 2)))[0])


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            [FIT, {"Pad": {"size": [128, 96]}}, *NORMAL],
            "Pad.size is .128, 96., but the image is resized to fit .96, 96.",
        ),
        (
            [FIT, {"Pad": {"size": 96, "pad_mode": -1, "offsets": [1, 1]}}, *NORMAL],
            "pad_mode -1 .offsets. is for",
        ),
        ([PAD, FIT, *NORMAL], "Pad stands before Resize"),
        (
            [{"Resize": {"target_size": 90, "keep_ratio": False}}, {"Pad": {}}, *NORMAL],
            "Pad makes more of .90, 90. than",
        ),
        (
            [FIT, NORMAL[0], PAD, NORMAL[1]],
            "Pad works on colours of 0 to 255: put it before NormalizeImage, or give",
        ),
        ([FIT, {"LetterBoxResize": {"target_size": 96}}, *NORMAL], "more than one Resize"),
        ([FIT, {"RandomExpand": {}}, *NORMAL], "RandomExpand changes images at random"),
    ],
)
def test_what_does_not_go_together(steps, said):
    with pytest.raises(ConfigError, match=said):
        reader(steps)


def test_an_image_that_is_there_already_is_left_alone():
    sample = FitResize((40, 60), 2, "centre")(Sample(PHOTO), RNG)
    assert sample.image is PHOTO and (sample.scale_factor, sample.pad_offset) == ((1.0, 1.0), (0, 0))
    pixels = np.zeros((3, 40, 60), np.float32)
    assert FillInput((40, 60), (0, 0, 0))(Sample(pixels), RNG).image is pixels


STRETCH = {"BatchRandomResize": {"target_size": [64, 96], "keep_ratio": False}}
BATCH = {"BatchRandomResize": {"target_size": [64, 96], "keep_ratio": True}}


@pytest.mark.parametrize(
    ("train", "evaluation", "said"),
    [
        (([], [STRETCH]), [{"Resize": {"target_size": 96, "keep_ratio": False}}], ""),
        (
            ([], [STRETCH]),
            [FIT],
            "TrainReader stretches images and EvalReader keeps the ratio of their sides",
        ),
        (
            ([FIT, PAD], []),
            [{"Resize": {"target_size": 96, "keep_ratio": False}}],
            "TrainReader keeps the ratio",
        ),
        (
            ([], [BATCH, {"PadBatch": {"pad_to_stride": 32}}]),
            [FIT],
            "the whole input of 96x96: the network has not",
        ),
        (([{"RandomResize": {"target_size": [64, 96]}}, PAD], []), [FIT], ""),
        (([{"LetterBoxResize": {"target_size": 96}}], []), [FIT], ""),
    ],
)
def test_other_shapes_in_training_are_said(train, evaluation, said, caplog):
    tell_other_shapes(reader(*train, section="TrainReader"), reader(evaluation))
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_what_came_later_does_not_make_a_run_of_before_again():
    settings = reader([FIT, PAD], section="TrainReader")
    assert (
        not any(key in repr(settings) for key in ("mixup", "cutmix", "schedulers"))
        and settings.by_epoch == {}
    )
    assert replace(settings, section="TrainReader").by_epoch == {}
    mixed = ReaderSettings.from_mapping(
        {"sample_transforms": ["Decode", "Mixup"], "mixup_epoch": 3}, "TrainReader"
    )
    assert mixed.by_epoch == {"mixup_epoch": 3}
    late = reader([FIT, PAD], section="TrainReader", transform_schedulers=[{"Pad": {"stop_epoch": 2}}])
    assert late.by_epoch == {"schedule": [("Pad", 0, 2)]}
    plain = InferConfig((96, 96), ("a",))
    assert not {"padding", "fill"} & set(plain.identity())
    assert {"padding", "fill"} < set(replace(plain, keep_ratio=True).identity())
