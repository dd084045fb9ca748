"""Pass: weights of inputs that never change taken out, so that they set no range.

In a channel that a network has switched off (a ReLU whose input is always below 0), the batch-norm behind a depthwise
convolution divides by a variance of almost nothing, and the folded weight is hundreds of times as large as any other.
It multiplies a constant, so it computes nothing; but one scale for the whole weight is then the scale of that weight,
and the others become 0.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from picoquant.int8.operators import QuantizableOperator, quantizable_operators
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import CONVOLUTIONS, fused_layer
from picoquant.quantization.ptq.float_network import Part, calibration_parts
from picoquant.quantization.ptq.state import PtqState

LOG = logging.getLogger("picoquant")

_TIMES = (
    2.0  # a bit of the live weights' range; what takes less of it is left, and works if its input wakes up
)
_GAP = 0.25  # how far from an activation's flat end its inputs stay, as part of how far apart they are
_HOPELESS = 16.0  # times the live weights' range: with the scale of such a weight they would have three bits and a sign

# Where an activation is flat: its results below the first and above the second number never change.
_FLAT: Mapping[str, Callable[[Mapping[str, Any]], tuple[float, float]]] = {
    "relu": lambda values: (0.0, math.inf),
    "relu6": lambda values: (0.0, values.get("threshold", 6.0)),
    "hard_swish": lambda values: (-values.get("offset", 3.0), math.inf),
    "hard_sigmoid": lambda values: (
        -values.get("offset", 0.5) / values.get("slope", 0.2),
        (1 - values.get("offset", 0.5)) / values.get("slope", 0.2),
    ),
}


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A convolution, some of whose inputs have far larger weights than the others.

    Attributes:
        operator: the convolution.
        activation: the operator that computes its input, flat at an end.
        groups: of the convolution: 1, or as many as inputs.
        reach: largest absolute weight of each input channel, `[I]`.
        bias: name of the stored bias behind it; None without one.
        bordered: whether it pads its input with zeros, which another constant is not.
        shared: whether weights of several inputs have one scale.
    """

    operator: QuantizableOperator
    activation: Operator
    groups: int
    reach: np.ndarray
    bias: str | None
    bordered: bool
    shared: bool


@dataclass
class _Seen:
    """The smallest and largest value of each channel, before and behind an activation, each `[C]`."""

    low: np.ndarray
    high: np.ndarray

    def add(self, low: np.ndarray, high: np.ndarray) -> None:
        """Add those of other images."""
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)


def _ends(name: str, value: np.ndarray, part: Part) -> tuple[np.ndarray, np.ndarray, bool]:
    """The smallest and largest value of each channel, and whether a batch ends with these images."""
    return value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3)), part.is_last


def settle_dead_channels(state: PtqState) -> PtqState:
    """Zero weights of inputs that are constant, where they are the largest; a constant goes into the bias.

    An input is taken for constant when it is one number on all calibration images, that number is a flat end of the
    activation before it, and what the activation reads stays clear of the end. FP32 outputs do not change on such
    images. Only weights that are more than twice those of all other inputs are taken out. Where they would leave the
    others next to nothing of a common scale, to be constant is enough: an input that wakes up on some image costs less
    than all others on each.

    Must come after folding, which makes the large weights, and before whatever looks at weights.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    graph = state.model.graph()
    operators = quantizable_operators(state.model, state.quant)
    of_tensor = state.quant.weight_quantize_type == "abs_max"
    found = [
        one
        for operator in operators
        if (one := _candidate(graph, state.model, operator, of_tensor)) is not None
    ]
    dead = _dead(state, found) if found else []
    for one, large, value in dead:
        _settle(state.model, one, large, value)
    channels = sum(int(large.sum()) for _, large, _ in dead)
    if channels:
        LOG.info(
            "quantize: %d channels of %d convolutions never change: their weights, the largest, are taken out",
            channels,
            len(dead),
        )
    return replace(state, settled=channels)


def _candidate(
    graph: Graph, model: ProgramModel, operator: QuantizableOperator, of_tensor: bool
) -> _Candidate | None:
    """A convolution whose range may be set by the weights of a constant input; None for every other."""
    if operator.op_type not in CONVOLUTIONS or operator.activation in graph.inputs:
        return None
    activation = graph.producer(operator.activation)
    if activation.op_type not in _FLAT or len(graph.users(operator.weight)) > 1:
        return None
    conv = graph.producer(operator.output)
    weight = model.values[operator.weight]
    groups = conv.attributes.get("groups") or 1
    reach = _reach(weight, groups)
    if reach is None or reach.max() <= _TIMES * reach.min():
        return None
    bias = fused_layer(graph, conv).bias
    if bias is not None and len(graph.users(bias)) > 1:
        bias = None
    padded = any(conv.attributes.get("paddings") or ()) or conv.attributes.get("padding_algorithm") == "SAME"
    bordered = padded and max(weight.shape[2:]) > 1
    return _Candidate(operator, activation, groups, reach, bias, bordered, groups == 1 or of_tensor)


def _reach(weight: np.ndarray, groups: int) -> np.ndarray | None:
    """The largest absolute weight of each input channel; None for groups of several channels."""
    absolute = np.abs(weight)
    if groups == 1:
        return absolute.max(axis=(0, 2, 3))
    return absolute.reshape(groups, -1).max(axis=1) if weight.shape[1] == 1 else None


def _dead(state: PtqState, found: list[_Candidate]) -> list[tuple[_Candidate, np.ndarray, np.ndarray]]:
    """The candidates that have dead channels, whether each channel is one, and what the channels hold, both `[I]`."""
    names = [name for one in found for name in (one.activation.input("X0"), one.operator.activation)]
    names = list(dict.fromkeys(names))
    seen: dict[str, _Seen] = {}
    measured = calibration_parts(state, names, _ends, "quantize: channels that never change")
    with closing(measured):
        for ends in measured:
            for name, (low, high, _) in ends.items():
                seen.setdefault(name, _Seen(low, high)).add(low, high)
            if ends[names[0]][2]:  # the end of a batch: fewer images may not show what changes
                found = [one for one in found if _large(one, seen).any()]
                if not found:
                    break
    return [(one, _large(one, seen), seen[one.operator.activation].low) for one in found]


def _large(one: _Candidate, seen: Mapping[str, _Seen]) -> np.ndarray:
    """Whether each input channel is constant, at a flat end and clear of it, with the largest weights; `[I]`."""
    result, before = seen[one.operator.activation], seen[one.activation.input("X0")]
    low, high = _FLAT[one.activation.op_type](one.activation.attributes)
    gap = np.maximum(low - before.high, before.low - high)
    constant = (result.low == result.high) & (gap > 0)
    if one.bias is None or one.bordered:
        constant &= result.low == 0
    found = _beyond(one.reach, constant & (gap >= _GAP * (before.high - before.low)), _TIMES)
    return found | _beyond(one.reach, constant, _HOPELESS) if one.shared else found


def _beyond(reach: np.ndarray, constant: np.ndarray, times: float) -> np.ndarray:
    """Which constant inputs have weights so many times as large as those of all that are not; `[I]`."""
    return (
        constant & (reach > times * reach[~constant].max()) if not constant.all() else np.zeros_like(constant)
    )


def _settle(model: ProgramModel, one: _Candidate, large: np.ndarray, value: np.ndarray) -> None:
    """Take the weights of input channels out; what they add to the results goes into the bias.

    Args:
        model: holds the weight and the bias.
        one: the convolution.
        large: whether each input channel is taken out, `[I]`.
        value: what the channels hold, `[I]`.
    """
    weight = model.values[one.operator.weight].copy()
    taken = np.zeros(weight.shape, np.float64)
    if one.groups == 1:
        taken[:, large] = weight[:, large]
        added = np.einsum("oihw,i->o", taken, np.where(large, value, 0))
        weight[:, large] = 0
    else:
        rows = np.repeat(large, len(weight) // one.groups)
        taken[rows] = weight[rows]
        added = taken.sum(axis=(1, 2, 3)) * np.repeat(value, len(weight) // one.groups)
        weight[rows] = 0
    model.write(one.operator.weight, weight)
    if added.any():
        model.write(one.bias, model.values[one.bias] + added)
