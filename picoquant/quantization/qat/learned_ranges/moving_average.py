"""Activation ranges as moving averages of each batch's absmax: PaddleSlim's default, nothing is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter, write_variable
from picoquant.quantization.fake_quant import UNMEASURED_RANGE, QuantiserPorts, range_variable
from picoquant.quantization.qat.learned_ranges.strategy import ParameterGradient

# The operator that computes a moving average of absmax and leaves the tensor as it is.
AVERAGE = "moving_average_abs_max_scale"
# PaddleSlim's start of a moving average: the range, and the weight and weighted sum of what went into it.
_START = {"scale": UNMEASURED_RANGE, "state": 1.0, "accum": 1.0}


class MovingAverage:
    """The quantiser itself updates the range, with a decay of `QuantAware.moving_rate`."""

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add the variables of the moving average; see `RangeStrategy`."""
        average = average_variables(inserter, scope, source)
        return QuantiserPorts(
            {"InScale": average["scale"], "InState": average["state"], "InAccum": average["accum"]},
            {"OutScale": average["scale"], "OutState": average["state"], "OutAccum": average["accum"]},
            follows_data=True,
        )

    def is_parameter(self, name: str) -> bool:
        """False: the range is no parameter."""
        return False

    def add_gradients(
        self, program: Any, operators: Sequence[QuantizableOperator], bits: int
    ) -> list[ParameterGradient]:
        """Nothing: quantisers stay straight-through."""
        return []

    def optimizer(self) -> None:
        """None."""

    def initialise(self, scope: Any, name: str, absmax: float, moving_rate: float) -> None:
        """Start the average; see `RangeStrategy`."""
        initialise_average(scope, name, absmax, moving_rate)


def average_variables(inserter: Inserter, scope: Any, source: Any) -> dict[str, Any]:
    """The variables `scale`, `state` and `accum` of an activation's moving average, `[1]` each."""
    return {part: range_variable(inserter, scope, source, part, start) for part, start in _START.items()}


def initialise_average(scope: Any, name: str, absmax: float, moving_rate: float) -> None:
    """Set a moving average to a value, as if very many batches with that absmax had been seen.

    PaddleSlim starts as if one batch with the range 1 had been seen, so after one step a range is about half of
    what it should be and after 20 still 1 % off; values above are clipped, and a short training is spent on that.

    Args:
        scope: of the training program.
        name: of the activation.
        absmax: of the activation, above 0.
        moving_rate: decay, 0 to 1.
    """
    weight = 1.0 / (1.0 - moving_rate)  # of infinitely many batches: 1 + r + r^2 + ...
    for part, value in {"scale": absmax, "state": weight, "accum": absmax * weight}.items():
        write_variable(scope, f"{name}@{part}", np.array([value], np.float32))
