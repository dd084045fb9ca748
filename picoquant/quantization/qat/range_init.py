"""Ranges before the first step and after the last.

PaddleSlim starts each moving average of an activation's range as if one batch with the range 1 had been
seen, so after one step a range is about half of what it should be and after 20 still 1 % off: what is above
is clipped, and a short training is spent on that. Here the averages start from the FP32 model's own ranges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import paddle

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizedOperator, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static import write_variable
from picoquant.quantization.ptq.range_search import SMALLEST_RANGE
from picoquant.quantization.qat.learned_ranges.pact import limit_name
from picoquant.quantization.qat.programs import QatPrograms

LOG = logging.getLogger("picoquant")

_RANGE_OF_NOTHING = 1.0

Shown = Callable[[str], Callable[[int], None]]


def calibrate(programs: QatPrograms, ranges: Mapping[str, float], settings: QuantAwareSettings) -> None:
    """Start the quantised activations' moving averages (and PACT's limits) from calibrated ranges.

    Args:
        programs: their scope is the current one.
        ranges: largest absolute value by variable, see `student.make_ready`.
        settings: the decay of the moving average.
    """
    scope = paddle.static.global_scope()
    # The weight that a moving average has after many batches: 1 + r + r^2 + …
    weight = 1.0 / (1.0 - settings.moving_rate)
    for operator in programs.operators:
        name = operator.activation
        value = ranges[name]
        if value <= SMALLEST_RANGE:  # what is always 0 is 0 in INT8 too, whatever the range
            LOG.warning(
                "quantize: %s, the input of %s %s, is 0 in all calibration images: a layer that does nothing",
                name,
                operator.kind,
                operator.output,
            )
            value = _RANGE_OF_NOTHING
        parts = {"scale": value, "state": weight, "accum": value * weight}
        for part, number in parts.items():
            write_variable(scope, f"{name}@{part}", np.array([number], np.float32))
        if settings.use_pact:
            write_variable(scope, limit_name(name), np.array([value], np.float32))


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
