"""Images in parts: where the parts are, and that what they find lies where it is in the image."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import ConfigError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.postprocess import Detections
from picoquant.postprocess.merge import MergeSettings
from picoquant.runtimes.sliced import Slicing, detect_sliced


def test_parts_cover_the_image_and_end_at_its_border():
    """320 with a quarter of overlap: 0, 240, then the last one at 640 - 320 = 320; two rows of 480: 0, 160."""
    windows = Slicing((320, 320), 0.25).windows(480, 640)
    assert windows[0] == (0, 0, 640, 480)
    assert [window[:2] for window in windows[1:]] == [
        (0, 0),
        (240, 0),
        (320, 0),
        (0, 160),
        (240, 160),
        (320, 160),
    ]
    assert all((x2 - x1, y2 - y1) == (320, 320) for x1, y1, x2, y2 in windows[1:])
    seen = np.zeros((480, 640), bool)
    for x1, y1, x2, y2 in windows[1:]:
        seen[y1:y2, x1:x2] = True
    assert seen.all()


def test_without_overlap_and_with_uneven_sides():
    windows = Slicing((100, 200), 0.0).windows(100, 500)
    assert windows[1:] == [(0, 0, 200, 100), (200, 0, 400, 100), (300, 0, 500, 100)]


@pytest.mark.parametrize("size", [(320, 320), (400, 320)])
def test_a_small_image_is_one_part(size):
    assert Slicing(size).windows(300, 320) == [(0, 0, 320, 300)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Slicing((16, 320)), "--slice 16,320: a part has at least 32 pixels a side"),
        (lambda: Slicing((320, 320), 1.0), "--overlap 1: expected a part of a slice, 0 to below 1"),
        (lambda: Slicing((320, 320), float("nan")), "--overlap nan: expected"),
        (
            lambda: Slicing((32, 32), 0.99).windows(4000, 4000),
            "--slice 32,32 makes .* parts of an image of 4000x4000",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


class Bright:
    """A detector whose network is a threshold: the box around what is bright in the input, if anything is."""

    input_names = ("image",)

    def __init__(self):
        self.calls = 0

    def __call__(self, feed):
        self.calls += 1
        return [feed["image"]]

    def decode(self, outputs, scale_factor, pad_offset=None):
        rows, columns = np.nonzero(outputs[0][0, 0] > 0.5)
        if not len(rows):
            return [Detections(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))]
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
        box /= np.tile(scale_factor[0][::-1], 2)
        return [Detections(np.zeros(1, np.int64), np.array([0.9], np.float32), box)]


CONFIG = InferConfig(labels=("thing",), input_size=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)


def sliced(image, **changes):
    network = Bright()
    return network, detect_sliced(network, network, image, CONFIG, Slicing((64, 64), **changes))


def test_what_a_part_finds_lies_where_it_is_in_the_image():
    """A thing of 8x8 pixels at (150, 90) in 200x128: at a third of the size the whole image's box is off by pixels."""
    image = np.zeros((128, 200, 3), np.uint8)
    image[90:98, 150:158] = 255
    network, found = sliced(image, overlap=0.5, merge=MergeSettings(metric="iou", threshold=0.95))
    assert network.calls == 1 + 3 * 6
    boxes = found.boxes.tolist()
    assert [150, 90, 158, 98] in boxes  # a part is 64x64, the network's input, so nothing is resized


def test_pieces_become_one():
    image = np.zeros((64, 120, 3), np.uint8)
    image[20:40, 30:90] = 255  # parts begin at 0, 32 and 56: 30 to 64, 32 to 90 (with its edge), 56 to 90
    _, found = sliced(image, overlap=0.5, merge=MergeSettings("nmm"))
    assert len(found) == 1
    assert found.boxes[0] == pytest.approx([30, 20, 90, 40], abs=2)


def test_one_part_is_the_image_itself():
    image = np.zeros((60, 64, 3), np.uint8)
    image[10:20, 10:20] = 255
    network, found = sliced(image)
    assert network.calls == 1 and len(found) == 1
