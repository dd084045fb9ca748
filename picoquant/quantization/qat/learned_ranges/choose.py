"""Which strategy the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.qat.learned_ranges.fixed import Fixed
from picoquant.quantization.qat.learned_ranges.lsq import Lsq
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.learned_ranges.pact import Pact
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.settings import QuantizationSettings


def range_strategy(
    settings: QuantizationSettings, quant: QuantAwareSettings, zero_points: Mapping[str, int] | None = None
) -> RangeStrategy:
    """Fixed where `Quantize.training: levels` says so, `learned_ranges: lsq`, `QuantAware.use_pact: true`, or averages.

    Args:
        settings: section `Quantize`.
        quant: section `QuantAware`.
        zero_points: of the activations that are not symmetric; only those that stay have any.
    """
    if settings.training == "levels":
        return Fixed(zero_points)
    if settings.learned_ranges == "lsq":
        return Lsq(settings.lsq_rate)
    return Pact() if quant.use_pact else MovingAverage()
