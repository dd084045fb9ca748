"""Detection in large images, part by part: small objects are seen as large as the network was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from picoquant.errors import ConfigError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.postprocess import Detections
from picoquant.postprocess.merge import MergeSettings, merged
from picoquant.runtimes.detect import detect

_LEAST = 32  # pixels of a part's side; below, a part holds less than one cell of the coarsest level
_MOST = 4096  # parts of an image


@dataclass(frozen=True)
class Slicing:
    """How an image is taken apart.

    Attributes:
        size: height and width of a part, image pixels; each is resized to the network's input.
        overlap: how much of a part its neighbour sees again, 0 to below 1.
        merge: how detections are put together.
    """

    size: tuple[int, int]
    overlap: float = 0.25
    merge: MergeSettings = field(default_factory=MergeSettings)

    def __post_init__(self) -> None:
        if min(self.size) < _LEAST:
            raise ConfigError(
                f"--slice {self.size[0]},{self.size[1]}: a part has at least {_LEAST} pixels a side"
            )
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"--overlap {self.overlap:g}: expected a part of a slice, 0 to below 1")

    def windows(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """x1, y1, x2, y2 of the parts of an image, the whole of it first; that alone where one part holds all of it.

        Every part has the full size: the last one of a row ends at the border and overlaps more.

        Raises: `ConfigError` for parts so small that there would be thousands.
        """
        rows = _starts(height, self.size[0], self.overlap)
        columns = _starts(width, self.size[1], self.overlap)
        if len(rows) * len(columns) > _MOST:
            raise ConfigError(
                f"--slice {self.size[0]},{self.size[1]} makes {len(rows) * len(columns)} parts of an image of "
                f"{width}x{height}; take a larger one, or less --overlap"
            )
        whole = (0, 0, width, height)
        parts = [
            (x, y, min(x + self.size[1], width), min(y + self.size[0], height)) for y in rows for x in columns
        ]
        return [whole, *(part for part in parts if part != whole)]

    def __str__(self) -> str:
        return f"in parts of {self.size[0]}x{self.size[1]}, overlap {self.overlap:g}, {self.merge.method}"


def detect_sliced(
    predict: Any, decoder: Any, image: np.ndarray, config: InferConfig, slicing: Slicing
) -> Detections:
    """Detections of one image, from its parts and the whole of it.

    Args:
        predict: `predict(feed)` -> outputs, and `predict.input_names`.
        decoder: fits the outputs.
        image: `[H, W, 3]` uint8 RGB.
        config: the model's preprocessing.
        slicing: how the image is taken apart.

    Raises: as `Slicing.windows`.
    """
    windows, found = slicing.windows(*image.shape[:2]), []
    if len(windows) == 1:
        return detect(predict, decoder, feed_of_image(image, config))
    for x1, y1, x2, y2 in windows:
        part = detect(predict, decoder, feed_of_image(np.ascontiguousarray(image[y1:y2, x1:x2]), config))
        # What a part finds outside of itself is cut off: there its neighbour has seen more.
        corner = np.array([x1, y1, x1, y1], np.float32)
        size = np.array([x2 - x1, y2 - y1] * 2, np.float32)
        boxes = np.clip(part.boxes, np.float32(0), size) + corner
        found.append(Detections(part.classes, part.scores, boxes))
    return merged(found, slicing.merge)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Where parts of `size` pixels begin that cover `length`, each `overlap` of it over the one before."""
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    return [*range(0, length - size, step), length - size]
