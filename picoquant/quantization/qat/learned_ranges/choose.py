"""Which strategy the settings ask for."""

from __future__ import annotations

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.qat.learned_ranges.fixed import Fixed
from picoquant.quantization.qat.learned_ranges.lsq import Lsq
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.learned_ranges.pact import Pact
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.settings import QuantizationSettings


def range_strategy(settings: QuantizationSettings, quant: QuantAwareSettings) -> RangeStrategy:
    """Fixed where `Quantize.training: levels` says so, `learned_ranges: lsq`, `QuantAware.use_pact: true`, or averages.

    Args:
        settings: section `Quantize`.
        quant: section `QuantAware`.
    """
    if settings.training == "levels":
        return Fixed()
    if settings.learned_ranges == "lsq":
        return Lsq(settings.lsq_rate)
    return Pact() if quant.use_pact else MovingAverage()
