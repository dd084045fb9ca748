"""Read the image of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.data.dataset import Record
from picoquant.data.images import read_image
from picoquant.data.transforms.sample import Sample


@dataclass(frozen=True)
class Decode:
    """Always the first transform: RGB uint8 from the file, EXIF orientation applied.

    Source: PaddleDetection, operators.py, `Decode`. The size of the image counts, not the annotated
    one.
    """

    def __call__(self, record: Record) -> Sample:
        """Raises: `UnreadableImageError` naming the file."""
        return sample_of(record, read_image(record.path))


def sample_of(record: Record, image: np.ndarray) -> Sample:
    """A sample of `image` ([H, W, 3] uint8) with those objects of `record` that are no crowds."""
    image.flags.writeable = False
    height, width = image.shape[:2]
    sample = Sample(
        image=image,
        path=record.path,
        image_id=record.image_id,
        boxes=record.boxes,
        classes=record.classes,
        im_shape=(float(height), float(width)),
    )
    if record.is_crowd.any():
        sample.keep(~record.is_crowd)
    if (height, width) != (record.height, record.width) and len(sample.boxes):
        limit = np.array([width, height, width, height], np.float32)
        sample.boxes = np.clip(sample.boxes, 0, limit)
        sample.drop_flat_boxes()
    return sample
