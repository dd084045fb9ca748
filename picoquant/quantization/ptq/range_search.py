"""The range (absmax) of a tensor, from the histogram of its values.

A value beyond the range is clipped, one inside is off by up to half a scale: a wider range clips less and rounds more.
Where only an activation uses the tensor, what counts is the error behind that activation: with a hard-swish the values
below -3 are all the same, so a range that clips them loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from picoquant.quantization.ptq.activation_functions import Function
from picoquant.quantization.ptq.gradient_histogram import GradientHistogram
from picoquant.quantization.ptq.histograms import Histogram

LOG = logging.getLogger("picoquant")

_Histogram = TypeVar("_Histogram", Histogram, GradientHistogram)

QUANT_MAX = 127
# For a tensor that is 0 throughout: a range of 0 would be divided by.
SMALLEST_RANGE = 1e-6
# Candidates: from the absmax down, this many to each halving, over so many halvings.
_PER_HALVING = 12
_HALVINGS = 10
_AT_ONCE = 1 << 20  # values times candidates that are computed with
_VALUES_A_BIN = 100
_HISTOGRAM_PART = 0.99999  # PaddleSlim's hist_percent

# A tensor's histogram, the activation that alone uses it, and what errors behind that cost (None: not known).
Observed = tuple[Histogram, "Function | None", "GradientHistogram | None"]


def choose_range(observed: Sequence[Observed], method: str, percentile: float = 99.99) -> float:
    """One range for tensors that must share it.

    Args:
        observed: of each tensor, its histogram, the activation that alone uses it, and what errors cost.
        method: `detections`: what clipping and rounding cost the detections is least; where that is not known, `mse`.
            `min_max`: nothing that has an effect is clipped. `percentile`: what is beyond that percentile is.
            `histogram`: the same with PaddleSlim's, 99.999 %. `mse`: the least squared error, of the values or behind
            the activation. `kl`: the least Kullback-Leibler divergence of the quantised values' distribution
            (TensorRT's method).
        percentile: for that method, 50 to 100.

    Returns: the absmax that INT8 represents; 0 when all values are 0.
    """
    used = [one for one in observed if one[0].absmax > 0]
    if not used:
        return 0.0
    reach = max(effective_absmax(histogram, function) for histogram, function, _ in used)
    known = [(gradients, function) for _, function, gradients in used if gradients is not None]
    if method == "min_max":
        return reach
    if method == "detections" and known:
        return _cheapest(known, reach, _cost_of_detections)
    histograms = [(histogram, function) for histogram, function, _ in used]
    if method in ("detections", "mse"):
        return _cheapest(histograms, reach, _squared_error)
    if method == "kl":
        return _cheapest(histograms, reach, _divergence)
    part = percentile / 100 if method == "percentile" else _HISTOGRAM_PART
    return max(_quantile(histogram, min(reach, histogram.absmax), part) for histogram, _ in histograms)


def _cheapest(
    used: Sequence[tuple[_Histogram, Function | None]],
    reach: float,
    cost: Callable[[_Histogram, Function | None, np.ndarray], np.ndarray],
) -> float:
    """The range below `reach` that costs least; `cost` takes candidates and returns one number for each."""
    candidates = reach * 2.0 ** (-np.arange(_PER_HALVING * _HALVINGS) / _PER_HALVING)
    costs = sum(cost(histogram, function, candidates) for histogram, function in used)
    return float(candidates[int(np.argmin(costs))])


def _values(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Centres and counts of the bins that are not empty."""
    filled = histogram.counts > 0
    return histogram.centres[filled], histogram.counts[filled]


def effective_absmax(histogram: Histogram, function: Function | None) -> float:
    """The smallest range whose clipping changes nothing behind the activation that alone uses a tensor."""
    if function is None:
        return histogram.absmax
    values, _ = _values(histogram)
    values = np.append(values, [histogram.low, histogram.high])
    order = np.argsort(-np.abs(values))
    values = values[order]
    exact = function(values)
    tolerance = 1e-6 * max(np.abs(exact).max(), 1e-12)
    low, high = 0.0, histogram.absmax
    for _ in range(40):
        middle = (low + high) / 2
        if np.abs(function(np.clip(values, -middle, middle)) - exact).max() > tolerance:
            low = middle
        else:
            high = middle
    return high


def _squared_error(histogram: Histogram, function: Function | None, ranges: np.ndarray) -> np.ndarray:
    """Squared error of all values (behind the activation) with each of some ranges."""
    values, counts = _values(histogram)
    return _for_each(values, function, ranges, lambda clipping, rounding: (clipping**2 + rounding) @ counts)


def _cost_of_detections(
    gradients: GradientHistogram, function: Function | None, ranges: np.ndarray
) -> np.ndarray:
    """What each of some ranges costs the detections, see `GradientHistogram`.

    Rounding errors are independent of one another: their squares add up. What clipping takes away goes the same way
    at every value, so it adds up before it is squared.
    """
    sums, squares = gradients.sums, gradients.squares
    return _for_each(
        gradients.centres,
        function,
        ranges,
        lambda clipping, rounding: np.square(clipping @ sums.T).mean(axis=1) + rounding @ squares,
    )


def _for_each(
    values: np.ndarray,
    function: Function | None,
    ranges: np.ndarray,
    cost: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """What each of some ranges costs; `cost` takes what `_errors` returns."""
    some = max(1, _AT_ONCE // max(1, len(values)))
    return np.concatenate(
        [
            cost(*_errors(values, function, ranges[start : start + some]))
            for start in range(0, len(ranges), some)
        ]
    )


def _errors(
    values: np.ndarray, function: Function | None, ranges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What ranges change values by, behind the activation, `[ranges, values]`: the error of those it clips, and of the
    others the mean square of rounding.

    Inside a bin that is narrower than a scale, values lie anywhere between two quantised values, so rounding is counted
    as its variance, a twelfth of the scale squared, as far as it has an effect behind the activation.
    """
    absmax = ranges[:, None]
    scale = absmax / QUANT_MAX
    clipped = np.clip(values, -absmax, absmax)
    inside = clipped == values
    if function is None:
        return clipped - values, np.where(inside, scale**2 / 12, 0)
    exact, total = function(values), np.zeros_like(clipped)
    # Rounding puts a value anywhere within half a scale of it (midpoints of four quarters: a twelfth).
    for shift in (-0.375, -0.125, 0.125, 0.375):
        rounded = np.clip(values + shift * scale, -absmax, absmax)
        total += (function(rounded) - exact) ** 2 / 4
    return function(clipped) - exact, np.where(inside, total, 0)


def _divergence(histogram: Histogram, function: Function | None, ranges: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of the magnitudes' distribution from that of `QUANT_MAX` quantised values.

    As TensorRT: the reference holds what is clipped in its last bin, the quantised form does not, and spreads
    the mass of each quantised value over those of its bins that are not empty.
    """
    values, counts = _values(histogram)
    reach = effective_absmax(histogram, function)
    # Few values in many bins differ from anything smooth by chance alone.
    bins = int(np.clip(counts.sum() // _VALUES_A_BIN, 2 * QUANT_MAX, 2048))
    index = np.minimum((np.minimum(np.abs(values), reach) / reach * bins).astype(np.int64), bins - 1)
    mass = np.bincount(index, counts, bins)
    return np.array([_divergence_from(mass, int(np.ceil(min(one / reach, 1.0) * bins))) for one in ranges])


def _divergence_from(mass: np.ndarray, kept: int) -> float:
    """Divergence of the values in the first `kept` of some bins, `mass` being how many are in each."""
    if kept < QUANT_MAX:
        return np.inf
    reference = mass[:kept].copy()
    reference[-1] += mass[kept:].sum()
    quantised = np.arange(kept) * QUANT_MAX // kept
    filled = np.bincount(quantised, mass[:kept] > 0, QUANT_MAX)
    spread = np.bincount(quantised, mass[:kept], QUANT_MAX) / np.maximum(filled, 1)
    rounded = np.where(mass[:kept] > 0, spread[quantised], 0)
    reference, rounded = reference / reference.sum(), rounded / max(rounded.sum(), 1)
    occupied = reference > 0
    return float((reference[occupied] * np.log(reference[occupied] / (rounded[occupied] + 1e-12))).sum())


def _quantile(histogram: Histogram, reach: float, part: float) -> float:
    """The range that holds a part of the values; values beyond `reach`, which have no effect, count as `reach`."""
    values, counts = _values(histogram)
    magnitudes = np.minimum(np.abs(values), reach)
    order = np.argsort(magnitudes)
    total = np.cumsum(counts[order]) / counts.sum()
    index = min(int(np.searchsorted(total, part)), len(order) - 1)
    return float(magnitudes[order][index])


def choose_ranges(
    groups: Sequence[Sequence[str]],
    histograms: Mapping[str, Histogram],
    functions: Mapping[str, Function | None],
    gradients: Mapping[str, GradientHistogram],
    method: str,
    percentile: float,
) -> dict[str, float]:
    """Ranges of all tensors; those of a group are equal.

    Args:
        groups: names of the tensors that share a range.
        histograms: by tensor.
        functions: by tensor, the activation that alone uses it.
        gradients: by tensor, what errors behind that activation cost; of those where it is known.
        method, percentile: see `choose_range`.
    """
    ranges = {}
    for group in groups:
        value = choose_range(
            [(histograms[n], functions.get(n), gradients.get(n)) for n in group], method, percentile
        )
        ranges.update(dict.fromkeys(group, value))
    return ranges


def without_zeros(ranges: Mapping[str, float], say: bool = True) -> dict[str, float]:
    """The ranges, with `SMALLEST_RANGE` for tensors that are always 0.

    Args:
        ranges: absmax by tensor.
        say: whether a warning names such tensors.
    """
    silent = sorted(name for name, value in ranges.items() if value < SMALLEST_RANGE)
    if silent and say:
        LOG.warning(
            "quantize: %d tensors are 0 for all calibration images (%s …); their range is set to %g",
            len(silent),
            silent[0],
            SMALLEST_RANGE,
        )
    return {**ranges, **dict.fromkeys(silent, SMALLEST_RANGE)}
