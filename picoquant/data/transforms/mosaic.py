"""Four images in one, turned, scaled and sheared, and a fifth one blended over it.

Source: PaddleDetection, operators.py, `Mosaic`, which follows YOLOX (https://arxiv.org/abs/2107.08430).
Sizes are (height, width) of the result; the canvas that the four images are laid on is twice as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import cv2
import numpy as np

from picoquant.data.transforms.flip import mirror
from picoquant.data.transforms.sample import Sample
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.utils import setting_checks as checks

GREY = 114  # YOLOX fills with it


@dataclass(frozen=True)
class Blend:
    """How the fifth image is laid over: resized by `scale`, mirrored or not, moved by parts of the
    room there is, `offset_y` and `offset_x` in 0..1."""

    scale: float
    flip: bool
    offset_y: float
    offset_x: float


@dataclass(frozen=True)
class Layout:
    """What is drawn for one mosaic. centre_y, centre_x: where the four images meet, pixels of the
    canvas; degree and shear in degrees; shift: part of the result's size."""

    centre_y: int
    centre_x: int
    degree: float
    scale: float
    shear: float
    shift: float
    blend: Blend | None


@dataclass(frozen=True)
class Mosaic:
    """Draw a mosaic with probability `prob`.

    degrees, translate, scale, shear and mixup_scale are [lowest, highest]. Boxes without area are
    left out (the original keeps them, with no effect: no anchor lies inside one).
    remove_outside_box is PaddleDetection's switch for tracking data; only false is known here.
    """

    prob: float = 1.0
    input_dim: Any = (640, 640)
    degrees: Any = (-10, 10)
    translate: Any = (-0.1, 0.1)
    scale: Any = (0.1, 2)
    shear: Any = (-2, 2)
    enable_mixup: bool = True
    mixup_prob: float = 1.0
    mixup_scale: Any = (0.5, 1.5)
    remove_outside_box: bool = False

    def __post_init__(self) -> None:
        checks.fraction("prob", self.prob)
        checks.fraction("mixup_prob", self.mixup_prob)
        checks.flag("enable_mixup", self.enable_mixup)
        object.__setattr__(self, "input_dim", checks.size("input_dim", self.input_dim))
        for name in ("degrees", "translate", "scale", "shear", "mixup_scale"):
            object.__setattr__(self, name, checks.span(name, getattr(self, name)))
        if self.scale[0] <= 0 or self.mixup_scale[0] <= 0:
            raise ConfigError("scale and mixup_scale must be greater than 0")
        if checks.flag("remove_outside_box", self.remove_outside_box):
            raise ConfigError(f"remove_outside_box: true is for tracking and not supported; {NOT_SUPPORTED}")

    def __call__(self, sample: Sample, rng: np.random.Generator, another: Callable[[], Sample]) -> Sample:
        """Make a mosaic of `sample` and of four samples that `another` draws, or leave it."""
        if rng.random() > self.prob:
            return sample
        four = [sample, another(), another(), another()]
        layout = self._draw(rng)
        fifth = another() if layout.blend is not None else None
        return compose(four, fifth, layout, self.input_dim)

    def _draw(self, rng: np.random.Generator) -> Layout:
        height, width = self.input_dim
        blend = None
        if self.enable_mixup and rng.random() < self.mixup_prob:
            blend = Blend(rng.uniform(*self.mixup_scale), rng.random() > 0.5, rng.random(), rng.random())
        return Layout(
            centre_y=int(rng.uniform(0.5 * height, 1.5 * height)),
            centre_x=int(rng.uniform(0.5 * width, 1.5 * width)),
            degree=rng.uniform(*self.degrees),
            scale=rng.uniform(*self.scale),
            shear=rng.uniform(*self.shear),
            shift=rng.uniform(*self.translate),
            blend=blend,
        )


def compose(four: list[Sample], fifth: Sample | None, layout: Layout, size: tuple[int, int]) -> Sample:
    """The mosaic of `four` samples, with `fifth` blended over it unless there is no object."""
    canvas, boxes = _lay_out(four, layout, size)
    matrix = affine_matrix(layout, size)
    image = cv2.warpAffine(canvas, matrix, dsize=(size[1], size[0]), borderValue=(GREY, GREY, GREY))
    result = Sample(
        image=image,
        path=four[0].path,
        image_id=four[0].image_id,
        boxes=warp_boxes(boxes, matrix, size),
        classes=np.concatenate([sample.classes for sample in four]),
        im_shape=(float(size[0]), float(size[1])),
        scale_factor=four[0].scale_factor,
    )
    if layout.blend is not None and fifth is not None and len(result.boxes):
        _blend_over(result, fifth, layout.blend)
    result.drop_flat_boxes()
    return result


def _lay_out(four: list[Sample], layout: Layout, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images with a corner at the centre: top left, top right, bottom left, bottom right.

    Returns: the canvas [2 * height, 2 * width, 3] uint8, and all boxes [G, 4] on it.
    """
    high, wide = 2 * size[0], 2 * size[1]
    canvas = np.full((high, wide, 3), GREY, np.uint8)
    all_boxes = []
    for place, sample in enumerate(four):
        image, scale = _fit(sample.image, size)
        height, width = image.shape[:2]
        left = layout.centre_x - width if place in (0, 2) else layout.centre_x
        top = layout.centre_y - height if place in (0, 1) else layout.centre_y
        y1, y2 = max(top, 0), min(top + height, high)
        x1, x2 = max(left, 0), min(left + width, wide)
        canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        shift = np.array([left, top, left, top], np.float32)
        all_boxes.append(sample.boxes * np.float32(scale) + shift)
    boxes = np.concatenate(all_boxes)
    return canvas, np.clip(boxes, 0, np.array([wide, high, wide, high], np.float32))


def _fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Resize to fit into `size` with the aspect ratio kept; the image and its scale."""
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    wanted = (max(int(width * scale), 1), max(int(height * scale), 1))
    if wanted == (width, height):
        return image, scale
    return cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR), scale


def affine_matrix(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """[2, 3] map from canvas to result: turn and scale about the corner, shear, shift.

    As in the original the shift is the same part of each side, and shear mixes the rows.
    """
    turn = cv2.getRotationMatrix2D(center=(0, 0), angle=layout.degree, scale=layout.scale)
    slope = math.tan(math.radians(layout.shear))
    matrix = np.stack([turn[0] + slope * turn[1], turn[1] + slope * turn[0]])
    matrix[:, 2] = layout.shift * size[1], layout.shift * size[0]
    return matrix


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[G, 4] boxes around the mapped corners of `boxes`, clipped to `size`."""
    if not len(boxes):
        return boxes
    corners = boxes.astype(np.float64)[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 4, 2)
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    around = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    limit = np.array([size[1], size[0], size[1], size[0]])
    return np.clip(around, 0, limit).astype(np.float32)


def _blend_over(target: Sample, fifth: Sample, blend: Blend) -> None:
    """Blend `fifth` half and half over `target` and add its objects."""
    height, width = target.image.shape[:2]
    fitted, scale = _fit(fifth.image, (height, width))
    padded = np.full((height, width, 3), GREY, np.uint8)
    padded[: fitted.shape[0], : fitted.shape[1]] = fitted
    image = cv2.resize(padded, (int(width * blend.scale), int(height * blend.scale)))
    high, wide = image.shape[:2]
    limit = np.array([wide, high, wide, high], np.float32)
    boxes = np.clip(fifth.boxes * np.float32(scale * blend.scale), 0, limit)
    over = Sample(image=image, boxes=boxes)
    if blend.flip:
        mirror(over)
    top = int(blend.offset_y * max(high - height, 0))
    left = int(blend.offset_x * max(wide - width, 0))
    window = over.image[top : top + height, left : left + width]
    target.image = _half_and_half(target.image, window)
    shift = np.array([left, top, left, top], np.float32)
    limit = np.array([width, height, width, height], np.float32)
    target.boxes = np.concatenate([target.boxes, np.clip(over.boxes - shift, 0, limit)])
    target.classes = np.concatenate([target.classes, fifth.classes])


def _half_and_half(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """floor((image + window) / 2) in uint8; `window` lies in the upper left, black beyond it."""
    result = image >> 1
    high, wide = window.shape[:2]
    part = image[:high, :wide]
    result[:high, :wide] = (part & window) + ((part ^ window) >> 1)
    return result
