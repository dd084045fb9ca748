"""Activation ranges of a network in training: where they start, what they are now, what training made of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizableOperator, scale_name
from picoquant.int8.passes.activations import TargetTensors
from picoquant.paddle_program.static.session import dynamic_mode
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.observers import observe_ranges
from picoquant.quantization.ptq.range_search import SMALLEST_RANGE
from picoquant.quantization.qat.student import Student, open_float_network
from picoquant.storage.files import write_json

LOG = logging.getLogger("picoquant")

_RANGE_OF_NOTHING = 1.0
_FLOAT_ABSMAX = "largest.json"


def initialise_ranges(student: Student, ranges: Mapping[str, float]) -> None:
    """Start the quantised activations' ranges from calibrated ones.

    Args:
        student: whose ranges are set.
        ranges: absmax by variable, see `ptq.prepare`.
    """
    for operator in student.operators:
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
        with dynamic_mode():
            student.ranges[name].initialise(absmax)


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

    def measure(self, student: Student, tensors: TargetTensors) -> dict[str, float]:
        """The range of every activation of the quantised network with its present weights.

        What follows an operator that the engine does not know keeps its calibrated range.

        Args:
            student: in training.
            tensors: of its network.

        Raises: `NotFiniteError` naming an activation that is not finite.
        """
        names = student.network.computable([*tensors.names, *tensors.fused])
        now = self._observe(student.network, names, "quantize: measuring the ranges of all results")
        if self._fractions is None:
            absmax = self._float_absmax(names) if self._chosen else {}
            self._fractions = {
                name: self._chosen[name] / value
                for name, value in absmax.items()
                if value > 0 and name in self._chosen
            }
        found = {name: value * self._fractions.get(name, 1.0) for name, value in now.items()}
        return {**self._chosen, **found}

    def _float_absmax(self, names: Sequence[str]) -> dict[str, float]:
        """The absmax of every activation of the prepared student in float, averaged over batches.

        Kept for a run that continues: measured again, the last bits may differ.
        """
        context = self._context
        kept = context.paths.work / _FLOAT_ABSMAX
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["fingerprint"] == context.fingerprint:
                return found["largest"]
        network = open_float_network(context.paths.student)
        found = self._observe(network, names, "quantize: measuring the FP32 model's ranges")
        write_json(kept, {"fingerprint": context.fingerprint, "largest": found})
        return found

    def _observe(self, network: FakeQuantNetwork, names: Sequence[str], title: str) -> dict[str, float]:
        return observe_ranges(network, names, self._context.images, self._context.progress(title))
