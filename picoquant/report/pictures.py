"""An image with the boxes of two models side by side: SVG over one image, which the page contains once."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from picoquant.data.images import read_image
from picoquant.evaluation.confusion import IGNORED, Matched
from picoquant.evaluation.paired import ImageChange
from picoquant.prediction.draw import colour

_SIDE, _QUALITY = 720, 82  # longest side of the image in the page, and the JPEG's quality


@dataclass(frozen=True)
class Mark:
    """A box in a picture.

    Attributes:
        x, y, width, height: of the box, image pixels.
        kind: `right`, `false` (no object, or one of another class) or `missed` (an object without a
            detection).
        label: index of its class; colour: colour of the class, `#rrggbb`.
        title: class, score and kind, as text.
    """

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: int
    colour: str
    title: str


@dataclass(frozen=True)
class Panel:
    """The boxes of one model in an image.

    Attributes:
        model: `FP32` or `INT8`.
        mean_ap: mAP of this image alone, 0 to 1.
        marks: the boxes.
        right, false, missed: number of boxes of each kind.
    """

    model: str
    mean_ap: float
    marks: tuple[Mark, ...]
    right: int
    false: int
    missed: int


@dataclass(frozen=True)
class Pair:
    """An image and its panels, one for each model.

    Attributes:
        name: file name; image_id: id in the annotations.
        change: change of the image's mAP from the first to the second model.
        source: the image as a data URI.
        width, height: size of the original image, pixels.
        panels: the boxes of each model.
    """

    name: str
    image_id: int
    change: float
    source: str
    width: int
    height: int
    panels: tuple[Panel, ...]


def pair_of(
    image: ImageChange, path: str, matched: Mapping[str, Matched], categories: Mapping[int, tuple[int, str]]
) -> Pair:
    """Read an image and collect the boxes of both models.

    Args:
        image: mAP of the image by each model.
        path: path of the image file.
        matched: the matched detections of `fp32` and `int8`.
        categories: class index and name of each category id.

    Raises: `DataError` for an image that cannot be read.
    """
    source, width, height = _jpeg(path)
    values = (image.first, image.second)
    panels = tuple(
        _panel(name.upper(), value, found, categories)
        for (name, found), value in zip(matched.items(), values)
    )
    return Pair(Path(path).name, image.image_id, image.change, source, width, height, panels)


def _panel(model: str, mean_ap: float, found: Matched, categories: Mapping[int, tuple[int, str]]) -> Panel:
    marks = []
    for index, entry in enumerate(found.found):
        if found.owner[index] == IGNORED:
            continue
        right = found.right(index)
        kind = caption = "right" if right else "false"
        if not right and found.owner[index] >= 0:
            caption = f"false: it is {categories[found.objects[found.owner[index]]['category_id']][1]}"
        marks.append(_mark(entry, kind, f"{entry['score']:.2f}, {caption}", categories))
    marks += [_mark(entry, "missed", "missed", categories) for entry in found.missed]
    kinds = [mark.kind for mark in marks]
    return Panel(model, mean_ap, tuple(marks), *(kinds.count(kind) for kind in ("right", "false", "missed")))


def _mark(entry: Mapping, kind: str, caption: str, categories: Mapping[int, tuple[int, str]]) -> Mark:
    number, name = categories[entry["category_id"]]
    x, y, width, height = (round(float(value), 1) for value in entry["bbox"])
    return Mark(x, y, width, height, kind, number, class_colour(number), f"{name} {caption}")


def class_colour(number: int) -> str:
    """Colour of a class index, `#rrggbb`, the same as in the images of `picoquant predict`."""
    return "#{:02x}{:02x}{:02x}".format(*colour(number))


def _jpeg(path: str) -> tuple[str, int, int]:
    """The image as a data URI, scaled to at most `_SIDE` pixels, and its original width and height."""
    import cv2

    image = read_image(path)
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii"), width, height


def shown_classes(pairs: Sequence[Pair], categories: Mapping[int, tuple[int, str]]) -> list[tuple[str, str]]:
    """Name and colour of each class with a box in the pictures, in the order of the classes."""
    used = {mark.label for pair in pairs for panel in pair.panels for mark in panel.marks}
    return [(name, class_colour(number)) for number, name in sorted(categories.values()) if number in used]
