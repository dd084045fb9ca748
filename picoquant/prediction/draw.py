"""Drawing of detections into an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from picoquant.postprocess import Detections


def colour(label: int) -> tuple[int, int, int]:
    """Colour of a class index, RGB, 0 to 255 each.

    The hue advances by the golden angle for each class, so that neighbouring classes have clearly different
    colours.
    """
    red, green, blue = colorsys.hsv_to_rgb((label * 0.381966) % 1.0, 0.85, 0.95)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw(image: np.ndarray, found: Detections, labels: Sequence[str]) -> np.ndarray:
    """Draw boxes, class names and scores into a copy of an image.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        found: detections, boxes `[x1, y1, x2, y2]` in image pixels.
        labels: class names by class index; a class without a name is labelled with its index.
    """
    import cv2

    drawn = np.ascontiguousarray(image.copy())
    height, width = drawn.shape[:2]
    thick = max(1, round(max(height, width) / 400))
    size = max(0.35, max(height, width) / 1200)
    limits = np.array([width, height, width, height], np.float32)
    for label, score, box in zip(found.classes.tolist(), found.scores.tolist(), found.boxes):
        x1, y1, x2, y2 = (int(side) for side in np.clip(box, 0, limits - 1).round())
        rgb = colour(label)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), rgb, thick)
        text = f"{labels[label] if label < len(labels) else label} {score:.2f}"
        (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        top = max(y1, tall + below)
        cv2.rectangle(drawn, (x1, top - tall - below), (x1 + wide, top), rgb, cv2.FILLED)
        ink = (0, 0, 0) if sum(rgb) > 380 else (255, 255, 255)
        place = (x1, top - below // 2)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, thick, cv2.LINE_AA)
    return drawn
