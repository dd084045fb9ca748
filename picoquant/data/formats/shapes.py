"""Draw generated images: textured shapes on textured background, with the box of what is visible.

A shape's class can be told by its outline, its colour and its texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np

_SHIFT = 4  # fractional bits of corner coordinates given to OpenCV
_HIDDEN_AT_MOST = 0.35  # part of a shape that later shapes may cover
_TRIES = 20


@dataclass(frozen=True)
class Drawn:
    """One shape of an image: its class, box x1, y1, x2, y2 in pixels and area of what is visible."""

    label: int
    box: tuple[int, int, int, int]
    area: int


def _regular(corners: int, dent: float = 1.0) -> np.ndarray:
    """[K, 2] corners on the unit circle; with dent < 1 a star with that inner radius."""
    count = corners * (1 if dent == 1.0 else 2)
    angle = np.arange(count) * (2 * math.pi / count) - math.pi / 2
    radius = np.where(np.arange(count) % 2, dent, 1.0)[:, None]
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


def _bulge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.6 - x**2 - y**2


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sign(np.sin(6 * x) * np.sin(6 * y))


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(11 * y)


def _rays(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.cos(10 * np.arctan2(y, x))


@dataclass(frozen=True)
class _Kind:
    """outline: [K, 2] corners in the unit circle; hole: radius of a round hole; hue: 0 to 179;
    turn: largest rotation in degrees; texture: of (x, y) in the unit circle, about -1 to 1."""

    name: str
    outline: np.ndarray
    hue: int
    texture: Callable[[np.ndarray, np.ndarray], np.ndarray]
    turn: float = 180.0
    hole: float = 0.0


_KINDS = (
    _Kind("disc", _regular(48), 2, _bulge),
    _Kind("square", _regular(4), 110, _checks, turn=20.0),
    _Kind("triangle", _regular(3), 60, _stripes, turn=25.0),
    _Kind("ring", _regular(48), 26, _plain, hole=0.55),
    _Kind("star", _regular(5, dent=0.45), 150, _rays, turn=36.0),
)
CLASS_NAMES = tuple(kind.name for kind in _KINDS)


def draw_image(
    rng: np.random.Generator, size: int, objects: int, smallest: float, largest: float
) -> tuple[np.ndarray, list[Drawn]]:
    """Draw one image with up to `objects` shapes.

    Args:
        rng: all that is random comes from it.
        size: side of the image in pixels.
        objects: number of shapes to place; one that finds no room is left out.
        smallest, largest: diameters of the shapes, parts of `size`.

    Returns: the image [size, size, 3] uint8 RGB, and its shapes.
    """
    image = _background(rng, size)
    owner = np.full((size, size), -1, np.int16)  # which shape is seen at a pixel
    labels: list[int] = []
    for _ in range(objects):
        label = int(rng.integers(len(_KINDS)))
        for _ in range(_TRIES):
            radius = size * math.exp(rng.uniform(math.log(smallest), math.log(largest))) / 2
            centre = rng.uniform(radius, size - radius, 2)
            cover = _cover(_KINDS[label], centre, radius, rng.uniform(-1, 1), size)
            if _leaves_others_visible(owner, cover, len(labels)):
                _paint(image, _KINDS[label], cover, centre, radius, rng)
                owner[cover > 127] = len(labels)
                labels.append(label)
                break
    return image.astype(np.uint8), [_seen(owner, number, label) for number, label in enumerate(labels)]


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """[size, size, 3] float32: soft patches of dull colour, stripes and grain."""
    coarse = rng.integers(50, 190, (5, 5, 1)) + rng.integers(-25, 26, (5, 5, 3))
    patches = cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    angle, waves = rng.uniform(0, math.pi), 2 * math.pi * rng.uniform(4, 20)
    along = np.arange(size, dtype=np.float32) / size
    wave = np.sin(along * (waves * math.cos(angle)) + (along * (waves * math.sin(angle)))[:, None])
    grain = rng.integers(-14, 15, (size, size), np.int8)
    patches += (rng.uniform(4, 16) * wave + grain)[:, :, None].astype(np.float32)
    return np.clip(patches, 0, 255, out=patches)


def _cover(kind: _Kind, centre: np.ndarray, radius: float, turn: float, size: int) -> np.ndarray:
    """[size, size] uint8: how far the shape covers each pixel."""
    angle = math.radians(turn * kind.turn)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = kind.outline @ np.array([[cos, sin], [-sin, cos]]) * radius + centre
    mask = np.zeros((size, size), np.uint8)
    points = np.round(corners * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _SHIFT)
    if kind.hole:
        middle = tuple(int(round(value * (1 << _SHIFT))) for value in centre)
        inner = int(round(radius * kind.hole * (1 << _SHIFT)))
        cv2.circle(mask, middle, inner, 0, -1, cv2.LINE_AA, _SHIFT)
    return mask


def _leaves_others_visible(owner: np.ndarray, cover: np.ndarray, count: int) -> bool:
    if not count:
        return True
    hidden = np.bincount(owner[cover > 127] + 1, minlength=count + 1)[1:]
    if not hidden.any():
        return True
    there = np.bincount(owner.ravel() + 1, minlength=count + 1)[1:]
    return bool((hidden <= _HIDDEN_AT_MOST * there).all())


def _paint(
    image: np.ndarray,
    kind: _Kind,
    cover: np.ndarray,
    centre: np.ndarray,
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Blend the shape into `image` (float32, changed in place)."""
    left, top, wide, high = cv2.boundingRect(cover)
    window = (slice(top, top + high), slice(left, left + wide))
    y, x = np.mgrid[window].astype(np.float32)
    texture = kind.texture((x - centre[0]) / radius, (y - centre[1]) / radius)
    value = rng.uniform(150, 225) + rng.uniform(22, 40) * texture
    hsv = np.empty((high, wide, 3), np.float32)
    hsv[:, :, 0] = (kind.hue + rng.uniform(-7, 7)) * 2 % 360  # OpenCV's float hue is in degrees
    hsv[:, :, 1] = rng.uniform(0.6, 0.95)
    hsv[:, :, 2] = np.clip(value + rng.integers(-12, 13, (high, wide)), 0, 255)
    colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    part = cover[window][:, :, None].astype(np.float32) / 255
    image[window] += part * (colour - image[window])


def _seen(owner: np.ndarray, number: int, label: int) -> Drawn:
    """The box around, and the count of, pixels at which shape `number` is seen."""
    rows, columns = np.nonzero(owner == number)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Drawn(label, box, len(rows))
