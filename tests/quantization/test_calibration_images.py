"""Calibration images are read once, when they are first needed."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import DataError
from picoquant.quantization.calibration_images import CalibrationImages


class Source:
    """Batches of two images that note how they are used."""

    def __init__(self, batches):
        self.batches, self.opened, self.closed = batches, 0, 0

    def __call__(self):
        self.opened += 1
        try:
            for number in range(self.batches):
                yield {"image": np.full((2, 1), number, np.float32)}
        finally:
            self.closed += 1


def test_they_are_read_at_the_first_use_and_once(tmp_path, caplog):
    source = Source(batches=9)
    images = CalibrationImages(source, 3, tmp_path / "files")
    assert source.opened == 0 and not (tmp_path / "files").exists()
    assert (len(images), images.images) == (3, 6)
    for _ in range(2):
        assert [feed["image"][0, 0] for feed in images] == [0, 1, 2]
    assert (source.opened, source.closed) == (1, 1)
    assert caplog.text.count("calibrated on 6 images only") == 1


def test_without_an_image_every_use_is_an_error(tmp_path):
    images = CalibrationImages(Source(batches=0), 3, tmp_path)
    for use in (len, list, lambda images: images.images):
        with pytest.raises(DataError, match="there is no image to calibrate on"):
            use(images)


def test_messages_name_an_image(tmp_path):
    images = CalibrationImages(Source(batches=1), 1, tmp_path, ["a.jpg"])
    assert images.label(1) == "calibration image 1, a.jpg, (in the order of Calibration)"
    assert images.label(2) == "calibration image 2 (in the order of Calibration)"
