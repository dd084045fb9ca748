"""Draw a pair of operations and apply each half of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from picoquant.data.transforms.autoaugment import colours, geometry
from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks

# Operation, probability and level (0 to 10) of each pair. Source: PaddleDetection, autoaugment_utils.py, `policy_v1`,
# those of the paper; v0 is the first five.
_V1 = (
    (("TranslateX_BBox", 0.6, 4), ("Equalize", 0.8, 10)),
    (("TranslateY_Only_BBoxes", 0.2, 2), ("Cutout", 0.8, 8)),
    (("Sharpness", 0.0, 8), ("ShearX_BBox", 0.4, 0)),
    (("ShearY_BBox", 1.0, 2), ("TranslateY_Only_BBoxes", 0.6, 6)),
    (("Rotate_BBox", 0.6, 10), ("Color", 1.0, 6)),
    (("Color", 0.0, 0), ("ShearX_Only_BBoxes", 0.8, 4)),
    (("ShearY_Only_BBoxes", 0.8, 2), ("Flip_Only_BBoxes", 0.0, 10)),
    (("Equalize", 0.6, 10), ("TranslateX_BBox", 0.2, 2)),
    (("Color", 1.0, 10), ("TranslateY_Only_BBoxes", 0.4, 6)),
    (("Rotate_BBox", 0.8, 10), ("Contrast", 0.0, 10)),
    (("Cutout", 0.2, 2), ("Brightness", 0.8, 10)),
    (("Color", 1.0, 6), ("Equalize", 1.0, 2)),
    (("Cutout_Only_BBoxes", 0.4, 6), ("TranslateY_Only_BBoxes", 0.8, 2)),
    (("Color", 0.2, 8), ("Rotate_BBox", 0.8, 10)),
    (("Sharpness", 0.4, 4), ("TranslateY_Only_BBoxes", 0.0, 4)),
    (("Sharpness", 1.0, 4), ("SolarizeAdd", 0.4, 4)),
    (("Rotate_BBox", 1.0, 8), ("Sharpness", 0.2, 8)),
    (("ShearY_BBox", 0.6, 10), ("Equalize_Only_BBoxes", 0.6, 8)),
    (("ShearX_BBox", 0.2, 6), ("TranslateY_Only_BBoxes", 0.2, 10)),
    (("SolarizeAdd", 0.6, 8), ("Brightness", 0.8, 10)),
)
POLICIES = {"v0": _V1[:5], "v1": _V1}


@dataclass(frozen=True)
class AutoAugment:
    """One of 20 pairs of operations (v1; v0: of 5) on the image, its boxes or what is in them.

    Source: PaddleDetection, operators.py, `AutoAugment`. As there, an operation of the whole image is done half of the
    time whatever its probability; in boxes it is done half of the time with, for each box, a third of it. What lies
    outside of a changed box stays as it is (the original adds 1 to it each time).
    """

    autoaug_type: str = "v1"

    def __post_init__(self) -> None:
        checks.choice("autoaug_type", self.autoaug_type, tuple(POLICIES))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample.boxes):
            return sample
        image = sample.image
        if image.dtype != np.uint8:
            image = np.clip(image, 0, 255).astype(np.uint8)
        boxes, pairs = sample.boxes, POLICIES[self.autoaug_type]
        for name, probability, level in pairs[int(rng.integers(len(pairs)))]:
            if rng.random() < 0.5:
                image, boxes = apply(name, image, boxes, probability, level, rng)
        sample.image, sample.boxes = image, boxes
        return sample


def apply(
    name: str,
    image: np.ndarray,
    boxes: np.ndarray,
    probability: float,
    level: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """One operation; `probability` is of those in boxes."""
    size, part = image.shape[:2], level / 10
    if name.endswith("_Only_BBoxes"):
        operation = _in_boxes(name.removesuffix("_Only_BBoxes"), part, rng)
        for box in boxes:
            if rng.random() + probability / 3 >= 1:
                image = in_box(image, box, operation)
        return image, boxes
    if name == "Rotate_BBox":
        degrees = _either_way(30 * part, rng)
        return geometry.rotate(image, degrees), geometry.rotate_boxes(boxes, degrees, size)
    if name in ("ShearX_BBox", "ShearY_BBox"):
        slant, axis = _either_way(0.3 * part, rng), int(name == "ShearY_BBox")
        return geometry.shear(image, slant, axis), geometry.shear_boxes(boxes, slant, axis, size)
    if name == "TranslateX_BBox":
        pixels = _either_way(250 * part, rng)
        return geometry.translate(image, pixels, 0), geometry.translate_boxes(boxes, pixels, 0, size)
    return _colours(name, part, rng)(image), boxes


def in_box(image: np.ndarray, box: np.ndarray, operation: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change the part of an image that is in a box, the pixels of its lower right corner included."""
    x1, y1, x2, y2 = (int(side) for side in box)
    part = image[y1 : y2 + 1, x1 : x2 + 1]
    if not part.size:
        return image
    result = image.copy()
    result[y1 : y2 + 1, x1 : x2 + 1] = operation(part)
    return result


def _in_boxes(kind: str, part: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    if kind == "Equalize":
        return colours.equalize
    if kind == "Flip":
        return np.fliplr
    if kind == "Cutout":
        return partial(colours.cutout, half=int(50 * part), rng=rng)
    if kind == "TranslateY":
        return partial(geometry.translate, pixels=_either_way(120 * part, rng), axis=1)
    return partial(geometry.shear, level=_either_way(0.3 * part, rng), axis=int(kind == "ShearY"))


def _colours(name: str, part: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    if name == "Equalize":
        return colours.equalize
    if name == "SolarizeAdd":
        return partial(colours.solarize_add, addition=int(110 * part))
    if name == "Cutout":
        return partial(colours.cutout, half=int(100 * part), rng=rng)
    operations = {
        "Color": colours.colour,
        "Contrast": colours.contrast,
        "Brightness": colours.brightness,
        "Sharpness": colours.sharpness,
    }
    return partial(operations[name], factor=1.8 * part + 0.1)


def _either_way(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value
