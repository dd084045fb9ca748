"""Activation ranges before the first step and after the last."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np
import paddle

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizedOperator, scale_name
from picoquant.quantization.ptq.range_search import SMALLEST_RANGE
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy

LOG = logging.getLogger("picoquant")

_RANGE_OF_NOTHING = 1.0


def initialise_ranges(
    strategy: RangeStrategy,
    operators: Iterable[QuantizedOperator],
    ranges: Mapping[str, float],
    moving_rate: float,
) -> None:
    """Start the quantised activations' ranges, in the current scope, from calibrated ones.

    Args:
        strategy: how ranges are found in training.
        operators: the quantised operators.
        ranges: absmax by variable, see `ptq.prepare.make_ready`.
        moving_rate: decay of moving averages.
    """
    scope = paddle.static.global_scope()
    for operator in operators:
        name = operator.activation
        absmax = ranges[name]
        if absmax <= SMALLEST_RANGE:  # what is always 0 is 0 in INT8 too, whatever the range
            LOG.warning(
                "quantize: %s, the input of %s %s, is 0 in all calibration images: a layer that does nothing",
                name,
                operator.kind,
                operator.output,
            )
            absmax = _RANGE_OF_NOTHING
        strategy.initialise(scope, name, absmax, moving_rate)


def trained_ranges(
    operators: Iterable[QuantizedOperator], state: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The ranges of the quantised operators' inputs, by variable.

    One that follows the data falls to 0 when its tensor has become 0 for every image: any range will do then.

    Raises: `UserError` when training has made one useless.
    """
    ranges = {}
    for operator in operators:
        value = float(state[scale_name(operator.activation)][0])
        if not np.isfinite(value) or value < 0:
            raise UserError(
                f"the trained range of {operator.activation} is {value}: lower TrainConfig.learning_rate"
            )
        ranges[operator.activation] = max(value, SMALLEST_RANGE)
    return ranges
