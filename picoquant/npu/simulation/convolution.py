"""Convolutions of whole numbers in floating point, always exact.

float32 represents every whole number up to 2**24 and float64 up to 2**53. If no partial sum can be larger,
nothing is rounded and the order of the additions does not matter. The bound is computed from the weights: the
largest sum of absolute weights of an output channel, times the absmax of the quantised input.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_FLOAT32_EXACT = 2**24


@dataclass(frozen=True)
class Geometry:
    """A convolution or pooling: strides, dilations `(y, x)`; padding `(top, bottom, left, right)`."""

    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1


def exact_type(weights: np.ndarray, absmax: int) -> type:
    """The fastest floating-point type that represents every partial sum exactly.

    Args:
        weights: whole numbers, `[out channels, …]`.
        absmax: the largest absolute quantised value of the input.

    Returns: `np.float32` or `np.float64`.
    """
    reach = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1).max(initial=0) * absmax
    return np.float32 if reach < _FLOAT32_EXACT else np.float64


def convolve(image: np.ndarray, weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A convolution, computed in the weights' floating-point type.

    Args:
        image: `[C, H, W]`, any type.
        weights: `[O, C / groups, kh, kw]`, float32 or float64.
        geometry: strides, padding, dilations and groups.

    Returns: `[O, H', W']`, of the weights' type.
    """
    image = image.astype(weights.dtype)
    height, width = weights.shape[2:]
    if geometry.groups == 1 and height == width == 1 and not any(geometry.padding):
        image = image[:, :: geometry.strides[0], :: geometry.strides[1]]
        flat = weights.reshape(len(weights), -1) @ image.reshape(len(image), -1)
        return flat.reshape(len(weights), *image.shape[1:])
    if weights.shape[1] == 1 and len(weights) == geometry.groups:
        return _depthwise(padded(image, geometry), weights[:, 0], geometry)
    windows = _windows(padded(image, geometry), (height, width), geometry)  # [C, kh, kw, H', W']
    size = windows.shape[3:]
    per_group, outs = weights.shape[1], len(weights) // geometry.groups
    parts = [
        weights[group * outs : (group + 1) * outs].reshape(outs, -1)
        @ windows[group * per_group : (group + 1) * per_group].reshape(-1, size[0] * size[1])
        for group in range(geometry.groups)
    ]
    return np.concatenate(parts).reshape(len(weights), *size)


def padded(image: np.ndarray, geometry: Geometry, value: float = 0) -> np.ndarray:
    """An image `[C, H, W]` with the border of `geometry.padding`, filled with `value`."""
    top, bottom, left, right = geometry.padding
    if not any(geometry.padding):
        return image
    return np.pad(image, ((0, 0), (top, bottom), (left, right)), constant_values=value)


def windows_of(image: np.ndarray, size: tuple[int, int], geometry: Geometry) -> list[np.ndarray]:
    """The `kh * kw` shifted views `[C, H', W']` of an image `[C, H, W]` that includes its border.

    View `y * kw + x` holds the element `(y, x)` of every window.
    """
    rows, columns = _output_size(image, size, geometry)
    views = []
    for y in range(size[0]):
        for x in range(size[1]):
            top, left = y * geometry.dilations[0], x * geometry.dilations[1]
            views.append(
                image[
                    :,
                    top : top + (rows - 1) * geometry.strides[0] + 1 : geometry.strides[0],
                    left : left + (columns - 1) * geometry.strides[1] + 1 : geometry.strides[1],
                ]
            )
    return views


def _windows(image: np.ndarray, size: tuple[int, int], geometry: Geometry) -> np.ndarray:
    views = np.stack(windows_of(image, size, geometry), axis=1)
    return views.reshape(len(image), *size, *views.shape[2:])


def _output_size(image: np.ndarray, size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    rows, columns = (
        (image.shape[1 + axis] - (size[axis] - 1) * geometry.dilations[axis] - 1) // geometry.strides[axis]
        + 1
        for axis in (0, 1)
    )
    return rows, columns


def _depthwise(image: np.ndarray, weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A depthwise convolution, one channel at a time.

    OpenCV's `filter2D` is used for kernels below 11x11, for which it sums directly; for larger ones it takes
    a Fourier transform, which is not exact.
    """
    size = weights.shape[1:]
    if geometry.dilations != (1, 1) or max(size) >= 11:
        views = windows_of(image, size, geometry)
        return sum(view * weights[:, i // size[1], i % size[1], None, None] for i, view in enumerate(views))
    rows, columns = _output_size(image, size, geometry)
    result = np.empty((len(image), rows, columns), image.dtype)
    for channel, (plane, kernel) in enumerate(zip(image, weights)):
        whole = cv2.filter2D(plane, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        stop_y = (rows - 1) * geometry.strides[0] + 1
        stop_x = (columns - 1) * geometry.strides[1] + 1
        result[channel] = whole[: stop_y : geometry.strides[0], : stop_x : geometry.strides[1]]
    return result
