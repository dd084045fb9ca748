"""Activation ranges of a network in training: where they start, what they are now, what training made of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping

import numpy as np

from picoquant.errors import PicoquantError, UserError
from picoquant.int8.operators import QuantizableOperator, scale_name
from picoquant.int8.passes.activations import TargetTensors
from picoquant.int8.quant_params import SMALLEST_RANGE
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.ptq.observers import observe_ranges
from picoquant.quantization.qat.student import Student
from picoquant.storage.files import write_json

LOG = logging.getLogger("picoquant")

_RANGE_OF_NOTHING = 1.0
_START_ABSMAX = "largest.json"


def initialise_ranges(student: Student, ranges: Mapping[str, float]) -> None:
    """Start the quantised activations' ranges from calibrated ones.

    Args:
        student: whose ranges are set.
        ranges: absmax by variable, see `ptq.prepare`.
    """
    readers = {operator.activation: operator for operator in student.operators}
    for name, found in student.ranges.items():
        absmax = ranges[name]
        if absmax <= SMALLEST_RANGE:  # what is always 0 is 0 in INT8 too, whatever the range
            absmax = _RANGE_OF_NOTHING
            if name in readers:
                LOG.warning(
                    "quantize: %s, the input of %s %s, is 0 in all calibration images: a layer that does nothing",
                    name,
                    readers[name].op_type,
                    readers[name].output,
                )
        found.initialise(absmax)


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

    Of a tensor whose range is not learned, the range is the same fraction of the absmax as at the calibrated start.

    Args:
        context: of the quantisation.
        chosen: the calibrated ranges, by variable; empty: the absmax is taken.
    """

    def __init__(self, context: QuantizationContext, chosen: Mapping[str, float]) -> None:
        self._context, self._chosen = context, chosen
        self._kept = context.paths.work / _START_ABSMAX
        self._start: dict[str, float] | None = None  # absmax then, once it is known

    def start(self, student: Student, tensors: TargetTensors) -> None:
        """Measure the student before its first step; kept for a run that continues."""
        self._start = self._observe(student, tensors, "quantize: measuring the start's ranges")
        write_json(self._kept, {"fingerprint": self._context.fingerprint, "largest": self._start})

    def measure(self, student: Student, tensors: TargetTensors) -> dict[str, float]:
        """The range of every activation of the quantised network with its present weights.

        What follows an operator that the engine does not know keeps its calibrated range.

        Args:
            student: in training.
            tensors: of its network.

        Raises: `NotFiniteError` naming an activation that is not finite.
        """
        now = self._observe(student, tensors, "quantize: measuring the ranges of all results")
        if self._start is None:
            self._start = self._read_start() if self._chosen else {}
        start = self._start
        found = {
            name: self._chosen[name] * (value / start[name])
            for name, value in now.items()
            if start.get(name, 0) > 0 and name in self._chosen
        }
        return {**now, **self._chosen, **found}

    def _read_start(self) -> dict[str, float]:
        """What `start` has measured in an interrupted run.

        Raises: `PicoquantError` when it is gone from the work folder.
        """
        try:
            kept = json.loads(self._kept.read_text(encoding="utf-8"))
            if kept["fingerprint"] == self._context.fingerprint:
                return kept["largest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._gone() from error
        raise self._gone()

    def _gone(self) -> PicoquantError:
        return PicoquantError(
            f"{self._kept}, which says where the ranges of this training started, is gone or damaged; delete its "
            "folder and run again"
        )

    def _observe(self, student: Student, tensors: TargetTensors, title: str) -> dict[str, float]:
        network = student.network
        names = network.computable([*tensors.names, *tensors.fused])
        return observe_ranges(network, names, self._context.images, self._context.progress(title))
