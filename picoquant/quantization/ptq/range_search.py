"""The range of a tensor, from the histogram of its values: its absmax, or with a zero point its two ends.

A value beyond the range is clipped, one inside is off by up to half a scale: a wider range clips less and rounds more.
Where only an activation uses the tensor, what counts is the error behind that activation: with a hard-swish the values
below -3 are all the same, so a range that clips them loses nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from picoquant.int8.quant_params import SMALLEST_RANGE
from picoquant.quantization.ptq.activation_functions import Function
from picoquant.quantization.ptq.gradient_histogram import GradientHistogram
from picoquant.quantization.ptq.histograms import Histogram

LOG = logging.getLogger("picoquant")

_Histogram = TypeVar("_Histogram", Histogram, GradientHistogram)

QUANT_MAX = 127
_STEPS = 255  # of a range with a zero point
_SMALLEST_SCALE = 1e-30
# Candidates: from the absmax down, this many to each halving, over so many halvings.
_PER_HALVING = 12
_HALVINGS = 10
_AT_ONCE = 1 << 20  # values times candidates that are computed with
_VALUES_A_BIN = 100
_HISTOGRAM_PART = 0.99999  # PaddleSlim's hist_percent
_ROUNDS = 4  # in which the two ends of a range with a zero point are found in turn, at most

# A tensor's histogram, the activation that alone uses it, and what errors behind that cost (None: not known).
Observed = tuple[Histogram, "Function | None", "GradientHistogram | None"]


@dataclass(frozen=True)
class Ends:
    """Candidates for the range of a tensor; in each 0 is a quantised value.

    Attributes:
        low, high, scale: `[n]`: the values that are not clipped, and the value of one step.
    """

    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray

    @classmethod
    def symmetric(cls, absmax: np.ndarray) -> Ends:
        """127 steps to each side."""
        return cls(-absmax, absmax, absmax / QUANT_MAX)

    @classmethod
    def asymmetric(cls, low: np.ndarray, high: np.ndarray) -> Ends:
        """255 steps from `low`, at most 0, to `high`, at least 0, moved so that 0 is one of them."""
        scale = np.maximum((high - low) / _STEPS, _SMALLEST_SCALE)
        below = np.rint(-low / scale)
        return cls(-below * scale, (_STEPS - below) * scale, scale)


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
    if method == "min_max":
        return reach
    histograms = [(histogram, function) for histogram, function, _ in used]
    cost = _cost_of(used, method)
    if cost is not None:
        return _cheapest(lambda absmax: cost(Ends.symmetric(absmax)), reach)
    if method == "kl":
        return _cheapest(lambda absmax: sum(_divergence(*one, absmax) for one in histograms), reach)
    part = percentile / 100 if method == "percentile" else _HISTOGRAM_PART
    return max(_quantile(histogram, min(reach, histogram.absmax), part) for histogram, _ in histograms)


def choose_ends(observed: Sequence[Observed], method: str, percentile: float = 99.99) -> tuple[float, float]:
    """The lowest and the highest value of tensors that must share a scale and a zero point.

    Args, see `choose_range`; where both ends are to be found (`detections`, `mse`), each in turn is moved to where it
    costs least, beginning at the best symmetric range. `percentile` and `histogram` clip half of what they leave out at
    each end; `kl` ends where its symmetric range does, or where the values do.

    Returns: the ends, at most and at least 0; both 0 when all values are 0.
    """
    used = [one for one in observed if one[0].absmax > 0]
    if not used:
        return 0.0, 0.0
    reach = [effective_ends(histogram, function) for histogram, function, _ in used]
    low, high = min(one[0] for one in reach), max(one[1] for one in reach)
    if method == "min_max" or high - low <= 0:
        return low, high
    if method in ("percentile", "histogram"):
        part = (1 + (percentile / 100 if method == "percentile" else _HISTOGRAM_PART)) / 2
        found = [_quantiles(one[0], ends, part) for one, ends in zip(used, reach)]
        return min(one[0] for one in found), max(one[1] for one in found)
    absmax = choose_range(observed, method, percentile)
    best = max(low, -absmax), min(high, absmax)
    cost = _cost_of(used, method)
    for _ in range(_ROUNDS if cost is not None else 0):
        before = best
        if high > 0:
            best = best[0], _best_end(cost, best[0], high)
        if low < 0:
            best = _best_end(cost, best[1], low), best[1]
        if best == before:
            break
    return best


def _best_end(cost: Callable[[Ends], np.ndarray], other: float, reach: float) -> float:
    """The end between 0 and `reach` that costs least beside the other one."""

    def of(parts: np.ndarray) -> np.ndarray:
        ends, others = np.copysign(parts, reach), np.full_like(parts, other)
        return cost(Ends.asymmetric(others, ends) if reach > 0 else Ends.asymmetric(ends, others))

    return math.copysign(_cheapest(of, abs(reach)), reach)


def zero_point_of(low: float, high: float, bits: int = 8) -> tuple[float, int]:
    """A range's ends as it is kept on the way to a network (`QuantParams.of_range`): a value, and the zero point.

    Args:
        low, high: at most and at least 0, not both 0.
        bits: of a quantised value.
    """
    scale = (high - low) / (2**bits - 1)
    return scale * (2 ** (bits - 1) - 1), int(np.rint(-low / scale)) - 2 ** (bits - 1)


def _cost_of(observed: Sequence[Observed], method: str) -> Callable[[Ends], np.ndarray] | None:
    """What each of some candidates costs; None for a method that measures no error."""
    known = [(gradients, function) for _, function, gradients in observed if gradients is not None]
    if method == "detections" and known:
        return lambda ends: sum(_cost_of_detections(*one, ends) for one in known)
    if method in ("detections", "mse"):
        return lambda ends: sum(
            _squared_error(histogram, function, ends) for histogram, function, _ in observed
        )
    return None


def _cheapest(cost: Callable[[np.ndarray], np.ndarray], reach: float) -> float:
    """The value below `reach` that costs least; `cost` takes candidates and returns one number for each."""
    candidates = reach * 2.0 ** (-np.arange(_PER_HALVING * _HALVINGS) / _PER_HALVING)
    return float(candidates[int(np.argmin(cost(candidates)))])


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


def effective_ends(histogram: Histogram, function: Function | None) -> tuple[float, float]:
    """The lowest and the highest value beyond which nothing changes behind the activation that alone uses a tensor."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if function is None:
        return low, high
    values = np.append(_values(histogram)[0], [histogram.low, histogram.high])
    exact = function(values)
    tolerance = 1e-6 * max(np.abs(exact).max(), 1e-12)

    def nearest(end: float) -> float:
        """The part of an end that is needed."""
        inner, outer = 0.0, 1.0
        if not end:
            return end
        for _ in range(40):
            middle = (inner + outer) / 2
            clipped = np.maximum(values, middle * end) if end < 0 else np.minimum(values, middle * end)
            if np.abs(function(clipped) - exact).max() > tolerance:
                inner = middle
            else:
                outer = middle
        return outer * end

    return nearest(low), nearest(high)


def _squared_error(histogram: Histogram, function: Function | None, ranges: Ends) -> np.ndarray:
    """Squared error of all values (behind the activation) with each of some ranges."""
    values, counts = _values(histogram)
    return _for_each(values, function, ranges, lambda clipping, rounding: (clipping**2 + rounding) @ counts)


def _cost_of_detections(gradients: GradientHistogram, function: Function | None, ranges: Ends) -> np.ndarray:
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
    ranges: Ends,
    cost: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """What each of some ranges costs; `cost` takes what `_errors` returns."""
    some = max(1, _AT_ONCE // max(1, len(values)))
    return np.concatenate(
        [
            cost(*_errors(values, function, ranges.low[part], ranges.high[part], ranges.scale[part]))
            for part in (slice(start, start + some) for start in range(0, len(ranges.scale), some))
        ]
    )


def _errors(
    values: np.ndarray, function: Function | None, low: np.ndarray, high: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What ranges change values by, behind the activation, `[ranges, values]`: the error of those it clips, and of the
    others the mean square of rounding.

    Inside a bin that is narrower than a scale, values lie anywhere between two quantised values, so rounding is counted
    as its variance, a twelfth of the scale squared, as far as it has an effect behind the activation.
    """
    low, high, scale = (one[:, None] for one in (low, high, scale))
    clipped = np.clip(values, low, high)
    inside = clipped == values
    if function is None:
        return clipped - values, np.where(inside, scale**2 / 12, 0)
    exact, total = function(values), np.zeros_like(clipped)
    # Rounding puts a value anywhere within half a scale of it (midpoints of four quarters: a twelfth).
    for shift in (-0.375, -0.125, 0.125, 0.375):
        rounded = np.clip(values + shift * scale, low, high)
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


def _quantiles(histogram: Histogram, ends: tuple[float, float], part: float) -> tuple[float, float]:
    """The ends below and above which all but a part of the values are; what is beyond `ends` counts as them."""
    values, counts = _values(histogram)
    values = np.clip(values, *ends)
    order = np.argsort(values)
    values, total = values[order], np.cumsum(counts[order]) / counts.sum()
    last = len(values) - 1
    low, high = (values[min(int(np.searchsorted(total, place)), last)] for place in (1 - part, part))
    return min(float(low), 0.0), max(float(high), 0.0)


def choose_ranges(
    groups: Sequence[Sequence[str]],
    histograms: Mapping[str, Histogram],
    functions: Mapping[str, Function | None],
    gradients: Mapping[str, GradientHistogram],
    method: str,
    percentile: float,
    symmetric: bool = True,
    bits: int = 8,
) -> tuple[dict[str, float], dict[str, int]]:
    """Ranges (`QuantParams.of_range`) and zero points of all tensors; those of a group are equal.

    Args:
        groups: names of the tensors that share a range.
        histograms: by tensor.
        functions: by tensor, the activation that alone uses it.
        gradients: by tensor, what errors behind that activation cost; of those where it is known.
        method, percentile: see `choose_range`.
        symmetric: whether 0 is in the middle of each range; then there are no zero points.
        bits: of a quantised value.
    """
    ranges: dict[str, float] = {}
    zeros: dict[str, int] = {}
    for group in groups:
        observed = [(histograms[n], functions.get(n), gradients.get(n)) for n in group]
        if symmetric:
            ranges.update(dict.fromkeys(group, choose_range(observed, method, percentile)))
            continue
        low, high = choose_ends(observed, method, percentile)
        value, zero = zero_point_of(low, high, bits) if high > low else (0.0, 0)
        ranges.update(dict.fromkeys(group, value))
        zeros.update(dict.fromkeys(group, zero))
    return ranges, zeros


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
