"""Detections of one image."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.paddle_program.network_input import select_inputs
from picoquant.postprocess import Detections


def detect(predict: Any, decoder: Any, feed: dict[str, np.ndarray]) -> Detections:
    """Detections of one image.

    Args:
        predict: `predict(feed)` -> outputs, and `predict.input_names`.
        decoder: fits the outputs.
        feed: see `feed_of_image`.
    """
    outputs = predict(select_inputs(feed, predict.input_names))
    return decoder.decode(outputs, feed["scale_factor"], feed.get("pad_offset"))[0]
