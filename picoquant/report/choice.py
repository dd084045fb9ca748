"""Which images a person should look at."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from picoquant.evaluation.paired import ImageChange


def worst_images(images: Sequence[ImageChange], count: int) -> list[ImageChange]:
    """Those that lost most from the first model to the second; fewer where fewer lost anything."""
    lost = sorted((image for image in images if image.change < 0), key=lambda i: (i.change, i.image_id))
    return lost[:count]


def typical_images(
    images: Sequence[ImageChange], count: int, leave_out: Sequence[ImageChange] = ()
) -> list[ImageChange]:
    """Those whose first mAP and whose change are nearest to the medians of all images."""
    if not images:
        return []
    middle = median(image.change for image in images), median(image.first for image in images)
    rest = [image for image in images if image not in leave_out]

    def distance(image: ImageChange) -> tuple[float, int]:
        return abs(image.change - middle[0]) + abs(image.first - middle[1]), image.image_id

    return sorted(rest, key=distance)[:count]
