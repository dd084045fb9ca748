"""Operators on quantised tensors: sums, products, rescaling, pooling, lookup tables.

Quantised tensors are int16, see `arithmetic`; images are `[C, H, W]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import tflite
from picoquant.npu.simulation.arithmetic import Multiplier, Requantiser, rounded, shifted, sixteen_bits
from picoquant.npu.simulation.convolution import Geometry, padded, windows_of
from picoquant.targets.integer_rules import Rules


def add(
    first: np.ndarray,
    second: np.ndarray,
    sources: Sequence[QuantParams],
    result: QuantParams,
    rules: Rules,
    on_cores: bool = False,
) -> np.ndarray:
    """The sum of two tensors: each is multiplied by its factor, then they are added and rounded once.

    With integer multipliers both factors use the shift of the larger one, so that the sum is exact until it
    is rounded.

    Args:
        first, second: quantised tensors that broadcast.
        sources: their quantisation parameters.
        result: quantisation parameters of the sum.
        rules: the target's rules.
        on_cores: whether it is computed as a convolution, see `Arithmetic.sum_weights`.
    """
    if rules.tflite:
        return tflite.add(first, second, sources, result, (result.low, result.high))
    weights = rules.arithmetic.sum_weights
    if weights is not None and on_cores:
        return _weighted_sum(first, second, sources, result, rules, weights)
    if rules.values_on_shaders:
        return _shader_sum(first, second, sources, result, rules)
    factors = np.array([source.scale / result.scale for source in sources])
    rule, rounding = rules.of_values.arithmetic.multiplier, rules.arithmetic.rounding
    if rule is not None:
        multiplier = Multiplier.of(factors, rule, common=True)
        total = first.astype(np.int64) * multiplier.number[0] + second.astype(np.int64) * multiplier.number[1]
        quantised = shifted(total, int(multiplier.shift[0]), rounding)
    else:
        scales = [np.float32(source.scale) for source in sources]
        total = first.astype(np.float32) * scales[0] + second.astype(np.float32) * scales[1]
        quantised = rounded(total / np.float32(result.scale), rounding)
    return np.clip(quantised, result.low, result.high).astype(np.int16)


def _shader_sum(
    first: np.ndarray, second: np.ndarray, sources: Sequence[QuantParams], result: QuantParams, rules: Rules
) -> np.ndarray:
    """A sum as shaders of VeriSilicon's chips compute it: each step rounded to float32, the zero point added before the
    second term."""
    inverse, zero = np.float32(1) / np.float32(result.scale), np.float32(result.zero_point)
    one, other = (np.float32(source.scale) * inverse for source in sources)
    stored = second.astype(np.float32) * other + (first.astype(np.float32) * one + zero)
    quantised = rounded(stored, rules.arithmetic.rounding) - zero
    return np.clip(quantised, result.low, result.high).astype(np.int16)


def _shader_product(
    first: np.ndarray, second: np.ndarray, sources: Sequence[QuantParams], result: QuantParams, rules: Rules
) -> np.ndarray:
    """A product as shaders of VeriSilicon's chips compute it: each step rounded to float32.

    Whole numbers there are the product of both stored integers less each of them times the other's zero point, so what
    is missing of the levels' product, that of both zero points, comes with the result's zero point.
    """
    factor = np.float32(sources[0].scale) * np.float32(sources[1].scale)
    factor *= np.float32(1) / np.float32(result.scale)
    zeros, zero = [source.zero_point for source in sources], np.float32(result.zero_point)
    product = first.astype(np.int32) * second.astype(np.int32) - zeros[0] * zeros[1]  # below 2^24
    missing = np.float32(zeros[0]) * factor * np.float32(zeros[1])
    stored = product.astype(np.float32) * factor + (missing + zero)
    quantised = rounded(stored, rules.arithmetic.rounding) - zero
    return np.clip(quantised, result.low, result.high).astype(np.int16)


def _weighted_sum(
    first: np.ndarray,
    second: np.ndarray,
    sources: Sequence[QuantParams],
    result: QuantParams,
    rules: Rules,
    weights: int,
) -> np.ndarray:
    """A sum on the cores for convolutions, whose weights are whole numbers; see `Arithmetic.sum_weights`."""
    largest = max(source.scale for source in sources)
    whole = [int(np.rint(weights * source.scale / largest)) for source in sources]
    sums = first.astype(np.int32) * whole[0] + second.astype(np.int32) * whole[1]
    return Requantiser.of(largest / weights / result.scale, rules, result.low, result.high)(sums)


def multiply(
    first: np.ndarray, second: np.ndarray, sources: Sequence[QuantParams], result: QuantParams, rules: Rules
) -> np.ndarray:
    """The product of two tensors that broadcast, for example a feature map and one number per channel.

    For the arguments see `add`.
    """
    if rules.values_on_shaders:
        return _shader_product(first, second, sources, result, rules)
    factor = sources[0].scale * sources[1].scale / result.scale
    return Requantiser.of(factor, rules.of_values, result.low, result.high)(
        first.astype(np.int32) * second.astype(np.int32)
    )


def rescale(
    quantised: np.ndarray, source: QuantParams, result: QuantParams, rules: Rules, on_shaders: bool = False
) -> np.ndarray:
    """A quantised tensor requantised to another scale; unchanged but for clipping if the scales are equal.

    Args:
        quantised, source, result, rules: the tensor, its quantisation parameters, the wanted ones, the target's rules.
        on_shaders: see `Rules.on_shaders`; they round once.
    """
    if np.isclose(source.scale, result.scale, rtol=1e-6, atol=0):
        if source.low >= result.low and source.high <= result.high:
            return quantised
        return np.clip(quantised, result.low, result.high)
    if on_shaders:
        scaled = quantised * (np.float64(np.float32(source.scale)) / np.float64(np.float32(result.scale)))
        return np.clip(rounded(scaled, rules.arithmetic.rounding), result.low, result.high).astype(np.int16)
    if rules.arithmetic.table_points is not None:
        # The units that have such tables: 16 bits for factor, product, and the stored integer before it is rounded.
        product = sixteen_bits(quantised * sixteen_bits(source.scale / result.scale))
        stored = rounded(sixteen_bits(product - result.low), rules.arithmetic.rounding)
        return np.clip(stored + result.low, result.low, result.high).astype(np.int16)
    return Requantiser.of(source.scale / result.scale, rules.of_values, result.low, result.high)(quantised)


def max_pool(image: np.ndarray, size: tuple[int, int], geometry: Geometry) -> np.ndarray:
    """The maximum of each window `size` (height, width); padding is never the maximum."""
    views = windows_of(padded(image, geometry, np.iinfo(image.dtype).min), size, geometry)
    result = views[0].copy()
    for view in views[1:]:
        np.maximum(result, view, out=result)
    return result


def average_pool(
    image: np.ndarray,
    size: tuple[int, int],
    geometry: Geometry,
    source: QuantParams,
    result: QuantParams,
    rules: Rules,
    exclusive: bool = True,
) -> np.ndarray:
    """The mean of each window: an int32 sum, divided and requantised to the result's scale with one rounding.

    Args:
        image: quantised, `[C, H, W]`.
        size: height and width of a window.
        geometry: strides and padding.
        source, result: quantisation parameters of the image and of the result.
        rules: the target's rules.
        exclusive: whether padding is left out of the mean.
    """
    sums = sum(view.astype(np.int64) for view in windows_of(padded(image, geometry), size, geometry))
    ones = np.ones((1, *image.shape[1:]), np.int64)
    inside = windows_of(padded(ones, geometry, 0 if exclusive else 1), size, geometry)
    counts = np.broadcast_to(sum(inside), sums.shape)
    factor = source.scale / result.scale
    if np.isclose(factor, 1.0, rtol=1e-6, atol=0):
        if rules.tflite:  # AveragePool of pooling.h divides sums of integers, zero points and all
            quantised = _divided(sums + source.zero_point * counts, counts, "half_away")
            quantised -= source.zero_point
        else:
            quantised = _divided(sums, counts, rules.arithmetic.rounding)
        return np.clip(quantised, result.low, result.high).astype(np.int16)
    pooled = np.empty(sums.shape, np.int16)
    for count in np.unique(counts):
        here = counts == count
        pooled[here] = Requantiser.of(factor / count, rules.of_values, result.low, result.high)(sums[here])
    return pooled


def _divided(sums: np.ndarray, counts: np.ndarray, rounding: str) -> np.ndarray:
    """Integer division, rounded to the nearest."""
    whole, rest = np.divmod(np.abs(sums), counts)
    up = 2 * rest > counts
    tie = 2 * rest == counts
    up |= tie if rounding == "half_away" else tie & (whole & 1 == 1)
    return np.sign(sums) * (whole + up)


def look_up(quantised: np.ndarray, entries: np.ndarray, source: QuantParams) -> np.ndarray:
    """The entries of a lookup table for each quantised value; see `arithmetic.table`."""
    return entries[quantised.astype(np.int32) - source.low]
