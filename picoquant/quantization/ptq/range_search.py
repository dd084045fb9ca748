"""The range of a tensor, from the histogram of its values.

A value beyond the range is clipped, one inside is off by up to half a level: a wider range clips less and
rounds more. Where only an activation uses the tensor, what counts is the error behind it: with a hard-swish
the values below -3 are all the same, so a range that clips them loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.quantization.ptq.activation_functions import Function
from picoquant.quantization.ptq.histograms import Histogram

LOG = logging.getLogger("picoquant")

LEVELS = 127
# For a tensor that is 0 throughout: a range of 0 would be divided by.
SMALLEST_RANGE = 1e-6
# Ranges that are tried: from the largest value down, this many to each halving, over so many halvings.
_PER_HALVING = 12
_HALVINGS = 10
_VALUES_A_BIN = 100
_HISTOGRAM_PART = 0.99999  # PaddleSlim's hist_percent


def choose_range(
    histograms: Sequence[tuple[Histogram, Function | None]], method: str, percentile: float = 99.99
) -> float:
    """One range for tensors that must share it.

    Args:
        histograms: of each tensor, with the activation that alone uses it, or None.
        method: `min_max`: nothing that can be felt is clipped. `percentile`: the rest up to 100 % is.
            `histogram`: the same with PaddleSlim's part, 99.999 %. `mse`: the least squared error, of the
            values or behind the activation. `kl`: the least Kullback-Leibler divergence of the rounded
            values' distribution (TensorRT's way).
        percentile: for that method.

    Returns: the largest absolute value; 0 when all values are.
    """
    used = [(seen, function) for seen, function in histograms if seen.largest > 0]
    if not used:
        return 0.0
    reach = max(_reach(seen, function) for seen, function in used)
    if method == "min_max":
        return reach
    if method == "mse":
        return _least(used, reach, _squared_error)
    if method == "kl":
        return _least(used, reach, _divergence)
    part = percentile / 100 if method == "percentile" else _HISTOGRAM_PART
    return max(_quantile(seen, min(reach, seen.largest), part) for seen, _ in used)


def _least(used: Sequence, reach: float, cost: object) -> float:
    tops = reach * 2.0 ** (-np.arange(_PER_HALVING * _HALVINGS) / _PER_HALVING)
    costs = [sum(cost(seen, function, top) for seen, function in used) for top in tops]  # type: ignore[operator]
    return float(tops[int(np.argmin(costs))])


def _values(seen: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Centres and counts of the bins that are not empty."""
    filled = seen.counts > 0
    return seen.centres[filled], seen.counts[filled]


def _reach(seen: Histogram, function: Function | None) -> float:
    """The smallest range that clips nothing which can be felt behind the activation."""
    if function is None:
        return seen.largest
    values, _ = _values(seen)
    values = np.append(values, [seen.low, seen.high])
    order = np.argsort(-np.abs(values))
    values = values[order]
    exact = function(values)
    tolerance = 1e-6 * max(np.abs(exact).max(), 1e-12)
    low, high = 0.0, seen.largest
    for _ in range(40):
        middle = (low + high) / 2
        if np.abs(function(np.clip(values, -middle, middle)) - exact).max() > tolerance:
            low = middle
        else:
            high = middle
    return high


def _squared_error(seen: Histogram, function: Function | None, top: float) -> float:
    """Squared error of all values (behind the activation) with the range `top`.

    Inside a bin that is narrower than a level values lie anywhere in a level, so rounding is counted as its
    variance, a twelfth of the level squared, as far as it is felt behind the activation.
    """
    values, counts = _values(seen)
    step = top / LEVELS
    clipped = np.clip(values, -top, top)
    if function is None:
        error = (clipped - values) ** 2 + np.where(clipped == values, step**2 / 12, 0)
        return float((counts * error).sum())
    exact, total = function(values), np.zeros_like(values)
    # Rounding puts a value anywhere within half a level of it (midpoints of four quarters: a twelfth).
    for shift in (-0.375, -0.125, 0.125, 0.375):
        rounded = np.where(clipped == values, np.clip(values + shift * step, -top, top), clipped)
        total += (function(rounded) - exact) ** 2 / 4
    return float((counts * total).sum())


def _divergence(seen: Histogram, function: Function | None, top: float) -> float:
    """Kullback-Leibler divergence of the magnitudes' distribution from its form in `LEVELS` levels.

    As TensorRT: the reference holds what is clipped in its last bin, the rounded form does not, and spreads
    each level's mass over the bins of it that are not empty.
    """
    values, counts = _values(seen)
    reach = _reach(seen, function)
    # Few values in many bins differ from anything smooth by chance alone.
    bins = int(np.clip(counts.sum() // _VALUES_A_BIN, 2 * LEVELS, 2048))
    place = np.minimum((np.minimum(np.abs(values), reach) / reach * bins).astype(np.int64), bins - 1)
    mass = np.bincount(place, counts, bins)
    kept = int(np.ceil(min(top / reach, 1.0) * bins))
    if kept < LEVELS:
        return np.inf
    reference = mass[:kept].copy()
    reference[-1] += mass[kept:].sum()
    level = np.arange(kept) * LEVELS // kept
    filled = np.bincount(level, mass[:kept] > 0, LEVELS)
    spread = np.bincount(level, mass[:kept], LEVELS) / np.maximum(filled, 1)
    rounded = np.where(mass[:kept] > 0, spread[level], 0)
    reference, rounded = reference / reference.sum(), rounded / max(rounded.sum(), 1)
    felt = reference > 0
    return float((reference[felt] * np.log(reference[felt] / (rounded[felt] + 1e-12))).sum())


def _quantile(seen: Histogram, reach: float, part: float) -> float:
    """The range that holds a part of the values (not counting as outside what is never felt)."""
    values, counts = _values(seen)
    magnitudes = np.minimum(np.abs(values), reach)
    order = np.argsort(magnitudes)
    total = np.cumsum(counts[order]) / counts.sum()
    place = min(int(np.searchsorted(total, part)), len(order) - 1)
    return float(magnitudes[order][place])


def choose_ranges(
    groups: Sequence[Sequence[str]],
    histograms: Mapping[str, Histogram],
    functions: Mapping[str, Function | None],
    method: str,
    percentile: float,
) -> dict[str, float]:
    """Ranges of all tensors; those of a group are equal."""
    ranges = {}
    for group in groups:
        value = choose_range([(histograms[n], functions.get(n)) for n in group], method, percentile)
        ranges.update(dict.fromkeys(group, value))
    return ranges


def without_zeros(ranges: Mapping[str, float], say: bool = True) -> dict[str, float]:
    """The ranges, with the smallest that can be divided by for tensors that are always 0, which are named."""
    silent = sorted(name for name, value in ranges.items() if value < SMALLEST_RANGE)
    if silent and say:
        LOG.warning(
            "quantize: %d tensors are 0 for all calibration images (%s …); their range is set to %g",
            len(silent),
            silent[0],
            SMALLEST_RANGE,
        )
    return {**ranges, **dict.fromkeys(silent, SMALLEST_RANGE)}
