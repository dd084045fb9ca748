"""Choice of the images that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from picoquant.evaluation.paired import ImageChange


def worst_images(images: Sequence[ImageChange], count: int) -> list[ImageChange]:
    """The images whose mAP fell most from the first model to the second.

    Returns: at most `count` images, the largest loss first; images that lost nothing are left out.
    """
    lost = sorted((image for image in images if image.change < 0), key=lambda i: (i.change, i.image_id))
    return lost[:count]


def typical_images(
    images: Sequence[ImageChange], count: int, leave_out: Sequence[ImageChange] = ()
) -> list[ImageChange]:
    """The images whose first mAP and whose change are closest to the medians over all images.

    Args:
        images: mAP of each image by both models.
        count: the largest number of images that is returned.
        leave_out: images that are not returned.
    """
    if not images:
        return []
    medians = median(image.change for image in images), median(image.first for image in images)
    rest = [image for image in images if image not in leave_out]

    def distance(image: ImageChange) -> tuple[float, int]:
        return abs(image.change - medians[0]) + abs(image.first - medians[1]), image.image_id

    return sorted(rest, key=distance)[:count]
