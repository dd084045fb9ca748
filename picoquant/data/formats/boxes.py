"""Boxes as annotation files write them -> x y width height in pixels.

M is the number of boxes. `box_format` of a data set's section says how its numbers are meant; where it says nothing,
they are taken as the file's format has them, and files whose numbers do not look so are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from picoquant.data.formats.large.rows import every, largest, some
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

_FAR = 0.05  # part of an image's side that a box reaches out of it where its numbers are hardly meant so
_SOME = 4  # so many boxes are no chance
_ROUNDING = 1.0  # pixels that boxes reach out of their images without being worth a question
_NEARLY_ALL, _MANY, _FEW = 0.95, 0.2, 0.01  # parts of all boxes
_LOST = 0.1  # part of all boxes of which nothing lies in their images that is more than a slip
_ENOUGH, _CORNER = (
    50,
    0.55,
)  # so many different boxes, of which none reaches beyond this part of its image's width and height
_WORDS = {
    "xywh": "x, y, width, height in pixels",
    "xyxy": "x1, y1, x2, y2 in pixels",
    "cxcywh": "centre x, centre y, width, height in pixels",
    "xywh_normalised": "x, y, width, height from 0 to 1",
    "xyxy_normalised": "x1, y1, x2, y2 from 0 to 1",
    "cxcywh_normalised": "centre x, centre y, width, height from 0 to 1",
}
_OTHERS = {  # how -> how else such numbers may be meant
    "xywh": ("xyxy", "cxcywh"),
    "xyxy": ("xywh", "cxcywh"),
    "cxcywh_normalised": ("xyxy_normalised", "xywh_normalised"),
}


@dataclass(frozen=True)
class RawBoxes:
    """The four numbers of each box, as the file has them.

    Attributes:
        numbers: [M, 4] float64.
        sizes: [M, 2] float64, width and height of the box's image, pixels.
        bounds: [M, 2] float64, how far boxes may reach: the same, or the annotated size where that is greater.
        area: [M] float64, the area that the file states; nan where it states none.
        usual: how this format of annotations means the numbers: `xywh`, `xyxy` or `cxcywh_normalised`.
        name: what messages call a box, by its place.
    """

    numbers: np.ndarray
    sizes: np.ndarray
    bounds: np.ndarray
    area: np.ndarray
    usual: str
    name: Callable[[int], str]

    @cached_property
    def corners(self) -> np.ndarray:
        """[M, 4] x1 y1 x2 y2 in pixels, of the numbers as they are usually meant."""
        return _as_corners(self, self.usual)

    def example(self, chosen: np.ndarray) -> str:
        """The first of some boxes [M] bool, with its numbers."""
        place = int(np.flatnonzero(chosen)[0])
        numbers = ", ".join(f"{number:.6g}" for number in self.numbers[place])
        return f"{self.name(place)} [{numbers}]"


def pixel_boxes(raw: RawBoxes, settings: DatasetSettings) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as x y width height in pixels [M, 4], and their areas [M]: those stated, where these are in square pixels.

    A negative width or height is read from the other corner. What is repaired is said, with a count and an example.

    Raises: `DataError` when most boxes look as if they were meant in another way than `box_format` or the format
        says.
    """
    given = settings.box_format
    if given is None:
        _ask(raw, settings)
    how = given or raw.usual
    boxes = raw.numbers.copy()
    if how.endswith("normalised"):
        if given is not None:
            _require_normalised(raw, settings)
        boxes *= np.tile(raw.sizes, 2)
    if how.startswith("xyxy"):
        boxes[:, 2:] -= boxes[:, :2]
    elif how.startswith("cxcywh"):
        boxes[:, :2] -= boxes[:, 2:] / 2
    turned = some(boxes[:, 2:] < 0)
    if turned.any():
        boxes[:, :2] += np.minimum(boxes[:, 2:], 0)
        boxes[:, 2:] = np.abs(boxes[:, 2:])
        _warn(
            settings,
            f"{turned.sum()} of {len(boxes)} boxes have a negative width or height, such as "
            f"{raw.example(turned)}: read from the other corner",
        )
    stated = np.isfinite(raw.area) & ~turned & (how == "xywh")
    return boxes, np.where(stated, raw.area, boxes[:, 2] * boxes[:, 3])


def tell_areas_of_none(flat: np.ndarray, raw: RawBoxes, path: Path) -> None:
    """Say how many boxes [M] bool have sides, but an `area` that is none, for which they are dropped.

    Raises: `DataError` when that are most of them.
    """
    if not flat.any():
        return
    said = (
        f"{path}: {flat.sum()} of {len(flat)} boxes have sides, but an area of 0 or less written beside them, such as "
        f"{raw.example(flat)}"
    )
    if 2 * flat.sum() > len(flat):
        raise DataError(f"{said}: take `area` out of the file, or write the right ones")
    LOG.warning("%s: dropped", said)


def _warn(settings: DatasetSettings, said: str) -> None:
    LOG.warning("%s: %s", settings.section, said)


def _require_normalised(raw: RawBoxes, settings: DatasetSettings) -> None:
    large = some(np.abs(raw.numbers) > 2)
    if large.any():
        raise DataError(
            f"{settings.annotation_file}: {large.sum()} of {len(large)} boxes have numbers that are no parts of an "
            f"image, such as {raw.example(large)}, but {settings.section}.box_format is {settings.box_format}"
        )


def _ask(raw: RawBoxes, settings: DatasetSettings) -> None:
    """Look whether the numbers are what the format says; see `pixel_boxes`."""
    if not len(raw.numbers):
        return
    if raw.usual.endswith("normalised"):
        _ask_whether_pixels(raw, settings)
        _ask_whether_the_other(raw, settings)
    else:
        _ask_whether_normalised(raw, settings)
        _ask_whether_the_other(raw, settings)
        _ask_whether_negative(raw, settings)
        _ask_whether_in_a_corner(raw, settings)
    _ask_whether_of_other_images(raw, settings)


def _question(raw: RawBoxes, settings: DatasetSettings, said: str, other: str) -> DataError:
    return DataError(
        f"{settings.annotation_file}: {said} Set {settings.section}.box_format to {other} ({_WORDS[other]}), or to "
        f"{raw.usual} if they are {_WORDS[raw.usual]}"
    )


def _as_corners(raw: RawBoxes, how: str) -> np.ndarray:
    """[M, 4] x1 y1 x2 y2 in pixels, of the numbers read in one of the ways of `_WORDS`."""
    numbers = raw.numbers * np.tile(raw.sizes, 2) if how.endswith("normalised") else raw.numbers
    if how.startswith("xyxy"):
        return numbers
    start = numbers[:, :2] - numbers[:, 2:] / 2 if how.startswith("cxcywh") else numbers[:, :2]
    return np.concatenate([start, start + numbers[:, 2:]], axis=1)


def _ask_whether_pixels(raw: RawBoxes, settings: DatasetSettings) -> None:
    pixels = raw.numbers * np.tile(raw.sizes, 2)
    pixels[:, 2:] = np.abs(pixels[:, 2:])
    outside = some((pixels < -_ROUNDING) | (pixels > np.tile(raw.sizes, 2) + _ROUNDING))
    if not outside.any():
        return
    said = (
        f"{outside.sum()} of {len(outside)} boxes have numbers outside 0 to 1, such as {raw.example(outside)}"
    )
    if 2 * outside.sum() > len(outside):
        raise DataError(
            f"{settings.annotation_file}: {said}; they must be {_WORDS[raw.usual]}: divide them by the image's width "
            f"and height, or set {settings.section}.box_format to xywh or xyxy where they are pixels"
        )
    _warn(settings, f"{said}: clipped to their images")


def _ask_whether_normalised(raw: RawBoxes, settings: DatasetSettings) -> None:
    corners = raw.corners
    sides = np.abs(corners[:, 2:] - corners[:, :2])
    small = every(sides <= 1) & every(sides > 0)
    if not small.any():
        return
    said = (
        f"{small.sum()} of {len(small)} boxes are below one pixel, such as {raw.example(small)}: are they 0 to 1, "
        "parts of the image?"
    )
    if 2 * small.sum() > len(small):
        inside = every(raw.numbers[small, :2] + raw.numbers[small, 2:] <= 1.001)
        as_sides = raw.usual == "xywh" and inside.mean() >= _NEARLY_ALL
        other = "xywh_normalised" if as_sides else "xyxy_normalised"
        raise _question(raw, settings, said, other)
    _warn(settings, f"{said} They are taken as pixels")


def _ask_whether_the_other(raw: RawBoxes, settings: DatasetSettings) -> None:
    """Corners given as x, y, width, height; or the other way round in a format of corners."""
    fitting = {how: _inside(raw, how) for how in _OTHERS[raw.usual]}
    centres = fitting.get("cxcywh")
    if centres is not None and centres.mean() < _NEARLY_ALL:  # any box that reaches out to the right fits so
        del fitting["cxcywh"]
    other = max(fitting, key=lambda how: fitting[how].sum())
    fits = fitting[other]
    doubtful = fits & ~_inside(raw, raw.usual)
    if raw.usual == "xywh":
        doubtful |= fits & _area_of_corners(raw)
    count, total = int(doubtful.sum()), len(fits)
    if count <= _FEW * total:
        return
    words, taken = (_WORDS[how].removesuffix(" in pixels") for how in (other, raw.usual))
    said = (
        f"{count} of {total} boxes do not fit into their images as {taken}, such as {raw.example(doubtful)}: are "
        f"they {words}?"
    )
    if 2 * count > total or (count >= _MANY * total and fits.mean() >= _NEARLY_ALL):
        raise _question(raw, settings, said, other)
    _warn(settings, f"{said} They are taken as {taken}")


def _inside(raw: RawBoxes, how: str) -> np.ndarray:
    """[M] bool: boxes that, read as `how`, have sides above 0 and lie in their image but for rounding."""
    corners = raw.corners if how == raw.usual else _as_corners(raw, how)
    solid = every(corners[:, 2:] > corners[:, :2])
    inside = (corners[:, :2] >= -_ROUNDING) & (corners[:, 2:] <= raw.bounds + _ROUNDING)
    return solid & every(inside)


def _area_of_corners(raw: RawBoxes) -> np.ndarray:
    """[M] bool: the area stated is that between two corners, and not that of two sides."""
    x1, y1, x2, y2 = raw.numbers.T
    near = 1e-3 * np.abs(raw.area) + 0.5
    between, sides = (x2 - x1) * (y2 - y1), x2 * y2
    return (np.abs(raw.area - between) <= near) & (np.abs(raw.area - sides) > near)


def _ask_whether_negative(raw: RawBoxes, settings: DatasetSettings) -> None:
    corners = raw.corners
    negative = some(corners[:, 2:] < corners[:, :2])
    if 2 * negative.sum() > len(negative):
        other = "xyxy" if raw.usual == "xywh" else "xywh"
        said = (
            f"{negative.sum()} of {len(negative)} boxes have a negative width or height, such as "
            f"{raw.example(negative)}: are they meant otherwise?"
        )
        raise _question(raw, settings, said, other)


def _ask_whether_in_a_corner(raw: RawBoxes, settings: DatasetSettings) -> None:
    """Boxes of smaller images, or in percent: all lie in the upper left."""
    corners = raw.corners
    ends = largest(np.maximum(corners[:, :2], corners[:, 2:]) / raw.sizes)
    if len(ends) < _ENOUGH or ends.max() > _CORNER or len(np.unique(corners, axis=0)) < _ENOUGH:
        return
    farthest = ends == ends.max()
    width, height = raw.sizes[int(np.flatnonzero(farthest)[0])]
    raise DataError(
        f"{settings.annotation_file}: none of {len(ends)} boxes reaches beyond {100 * ends.max():.0f} % of its image's "
        f"width and height, the farthest is {raw.example(farthest)} (an image of {width:g}x{height:g}): were they "
        f"drawn on smaller images, or are they percent? Write them in pixels of these, or set "
        f"{settings.section}.box_format to {raw.usual} where they are"
    )


def _ask_whether_of_other_images(raw: RawBoxes, settings: DatasetSettings) -> None:
    corners = raw.corners
    start, end = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    far = np.maximum(_FAR * raw.bounds, _ROUNDING)
    outside = some((start < -far) | (end > raw.bounds + far))
    lost = some((end <= 0) | (start >= raw.bounds)) & outside
    if not (outside.sum() >= _SOME and 2 * outside.sum() > len(outside)) and not (
        lost.sum() >= _SOME and lost.mean() >= _LOST
    ):
        return
    width, height = raw.bounds[int(np.flatnonzero(outside)[0])]
    raise DataError(
        f"{settings.annotation_file}: {outside.sum()} of {len(outside)} boxes reach far out of their images, such as "
        f"{raw.example(outside)} (an image of {width:g}x{height:g}): were they drawn on images of another size? Write "
        f"them in pixels of these, or set {settings.section}.box_format to {raw.usual} where they are: they are clipped"
    )
