"""Activation ranges of a network in training: where they start, what they are now, what training made of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizableOperator, scale_name
from picoquant.paddle_program.static.programs import free_variables, load_model
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.ptq.observers import observe_ranges
from picoquant.quantization.ptq.range_search import SMALLEST_RANGE
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.qat.programs import QatPrograms
from picoquant.storage.files import write_json

LOG = logging.getLogger("picoquant")

_RANGE_OF_NOTHING = 1.0
_FLOAT_ABSMAX = "largest.json"


def initialise_ranges(
    strategy: RangeStrategy,
    operators: Iterable[QuantizableOperator],
    ranges: Mapping[str, float],
    moving_rate: float,
) -> None:
    """Start the quantised activations' ranges, in the current scope, from calibrated ones.

    Args:
        strategy: how ranges are found in training.
        operators: the quantised operators.
        ranges: absmax by variable, see `ptq.prepare.Prepared`.
        moving_rate: decay of moving averages, 0 to 1.
    """
    scope = paddle.static.global_scope()
    for operator in operators:
        name = operator.activation
        absmax = ranges[name]
        if absmax <= SMALLEST_RANGE:  # what is always 0 is 0 in INT8 too, whatever the range
            LOG.warning(
                "quantize: %s, the input of %s %s, is 0 in all calibration images: a layer that does nothing",
                name,
                operator.op_type,
                operator.output,
            )
            absmax = _RANGE_OF_NOTHING
        strategy.initialise(scope, name, absmax, moving_rate)


def trained_ranges(
    operators: Iterable[QuantizableOperator], state: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The ranges of the quantised operators' inputs, by variable.

    A range that follows the data falls to 0 when its tensor has become 0 for every image: any range will do then.

    Args:
        operators: the quantised operators.
        state: the training program's stored variables.

    Raises: `UserError` when training has made a range useless.
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


class ObservedRanges:
    """The ranges of all activations, measured on the calibration images.

    Where calibration chose a range below the absmax, the same fraction of the present absmax is taken.

    Args:
        context: of the quantisation.
        chosen: the calibrated ranges, by variable; empty: the absmax is taken.
    """

    def __init__(self, context: QuantizationContext, chosen: Mapping[str, float]) -> None:
        self._context, self._chosen = context, chosen
        self._fractions: dict[str, float] | None = None

    def measure(self, programs: QatPrograms) -> dict[str, float]:
        """The range of every activation of the quantised network with the weights in the current scope.

        Raises: `NotFiniteError` naming an activation that is not finite.
        """
        executor = paddle.static.Executor(paddle.CPUPlace())  # of its own: an executor keeps what it ran
        now = self._observe(programs.test, executor, "quantize: measuring the ranges of all results")
        if self._fractions is None:
            absmax = self._float_absmax() if self._chosen else {}
            self._fractions = {
                name: self._chosen[name] / value
                for name, value in absmax.items()
                if value > 0 and name in self._chosen
            }
        return {name: value * self._fractions.get(name, 1.0) for name, value in now.items()}

    def _float_absmax(self) -> dict[str, float]:
        """The absmax of every activation of the student in float, averaged over batches.

        Kept for a run that continues: measured again, the last bits may differ.
        """
        context = self._context
        kept = context.paths.work / _FLOAT_ABSMAX
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["fingerprint"] == context.fingerprint:
                return found["largest"]
        scope, executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(scope):
            model = load_model(context.paths.student, executor)
            found = self._observe(model, executor, "quantize: measuring the FP32 model's ranges")
            free_variables(model.program, scope)
        write_json(kept, {"fingerprint": context.fingerprint, "largest": found})
        return found

    def _observe(self, model: Any, executor: Any, title: str) -> dict[str, float]:
        images = self._context.images
        return observe_ranges(model, executor, images, self._context.progress(title))
