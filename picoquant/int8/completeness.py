"""Whether an INT8 model is whole: every tensor has a usable scale, every weight really is in INT8.

An NPU that runs INT8 only stops when the model is loaded if an operator's input or output has no scale, and
that happens on the board. Here the files that quantisation wrote are read back and looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import PicoquantError
from picoquant.int8.network import QuantizedOperator
from picoquant.int8.paddle.form import out_thresholds
from picoquant.int8.paddle.reader import take_apart
from picoquant.int8.passes.activations import TargetTensors, behind_suppression, target_tensors
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program

_LARGEST = 127
_SAME = 1e-3  # relative; a mean's range may differ by less (`tie_avoidance.py`)
_NAMED = 5  # operators that a message names


@dataclass(frozen=True)
class FullCheck:
    """What was found; operators are named by their result.

    Attributes:
        operators: how many were looked at.
        int8_weights: how many of them have their weight in INT8.
        without_scale: type, operator and tensor of each input or output without a scale.
        bad_scales: tensors or weights with a scale that is not positive and finite, and the scale.
        not_whole: weights with values that are no whole numbers from -127 to 127.
        float_operators: operators with weights that stay in float though they should not.
        kept_float: those that stay in float because the settings say so.
        several_scales: tensors that only pass values on (concat, reshape …) and have several ranges: an NPU
            rounds once more there. No hole.
    """

    operators: int
    int8_weights: int
    without_scale: tuple[tuple[str, str, str], ...]
    bad_scales: tuple[tuple[str, float], ...]
    not_whole: tuple[str, ...]
    float_operators: tuple[str, ...]
    kept_float: tuple[str, ...]
    several_scales: tuple[tuple[str, ...], ...]

    @property
    def holes(self) -> list[str]:
        """What keeps the model from an INT8 NPU, a few words each, operators named."""
        found = [f"{kind} {name} has no scale for {tensor}" for kind, name, tensor in self.without_scale]
        found += [f"the scale of {name} is {value:g}" for name, value in self.bad_scales]
        found += [f"weight {name} is not in whole numbers" for name in self.not_whole]
        return found + [f"{name} has its weight in float" for name in self.float_operators]

    def as_dict(self) -> dict[str, Any]:
        """For quantization.json."""
        return {
            "whole": not self.holes,
            "operators": self.operators,
            "int8_weights": self.int8_weights,
            "holes": self.holes,
            "kept_float": list(self.kept_float),
            "several_scales": [list(names) for names in self.several_scales],
        }


def check_int8_model(
    model: Path, params: Path, kinds: Sequence[str] = ("conv2d", "depthwise_conv2d"), kept: Sequence[str] = ()
) -> FullCheck:
    """Look at an INT8 model in Paddle Lite's form, of 8 bits.

    Args:
        model, params: its files.
        kinds: types of operators that should be in INT8.
        kept: results of operators that may stay in float.

    Raises: `WeightsError` when the files are no such model.
    """
    program = read_program(model)
    values = read_params(program, params)
    network, operators, learnt = take_apart(program, values, model)
    block = network.blocks[0]
    scales = {**out_thresholds(block), **learnt}
    graph = read_graph(network)
    tensors = target_tensors(graph)
    # Without what batch-norm or reshape keep beside their result: no operator reads it, and it has no range.
    held = {*graph.inputs, *(name for op in graph.operators for name in op.results)}
    floats = {
        name for name in held if graph.is_activation(name) and (graph.tensor(name).shape or (1,))[0] != 0
    } - behind_suppression(graph)  # no NPU computes detections
    ops = [op for op in block.ops if op.type not in ("feed", "fetch")]
    missing = [
        (op.type, _result(op), name)
        for op in ops
        for name in dict.fromkeys([*_arguments(op.inputs), *_arguments(op.outputs)])
        if name in floats and name not in scales and name not in tensors.fused
    ]
    int8 = set(operators)
    others = [op for op in ops if op.type in kinds and _result(op) not in int8 and _has_weight(op, values)]
    return FullCheck(
        operators=len(ops),
        int8_weights=len(operators),
        without_scale=tuple(missing),
        bad_scales=tuple(_bad(scales, operators.values())),
        not_whole=tuple(op.weight for op in operators.values() if not _whole(values[op.weight])),
        float_operators=tuple(_result(op) for op in others if _result(op) not in kept),
        kept_float=tuple(_result(op) for op in others if _result(op) in kept),
        several_scales=tuple(_several(tensors, scales)),
    )


def require_whole(check: FullCheck) -> None:
    """Refuse a model with holes.

    Raises: `PicoquantError` naming the operators.
    """
    holes = check.holes
    if holes:
        more = f" and {len(holes) - _NAMED} more" if len(holes) > _NAMED else ""
        raise PicoquantError(
            f"the INT8 model is not fully quantised, an NPU would refuse it: {'; '.join(holes[:_NAMED])}{more}"
        )


def _bad(scales: Mapping[str, float], operators: Iterable[QuantizedOperator]) -> Iterator[tuple[str, float]]:
    for name, value in scales.items():
        if not math.isfinite(value) or value <= 0:
            yield name, value
    for operator in operators:
        wrong = operator.scales[~(np.isfinite(operator.scales) & (operator.scales > 0))]
        if len(wrong):
            yield operator.weight, float(wrong[0])


def _several(tensors: TargetTensors, scales: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    for group in tensors.groups:
        known = [scales[name] for name in group if name in scales]
        if known and max(known) - min(known) > _SAME * max(known):
            yield group


def _whole(value: np.ndarray) -> bool:
    return bool((value == np.rint(value)).all() and np.abs(value).max(initial=0) <= _LARGEST)


def _has_weight(op: Any, values: Mapping[str, np.ndarray]) -> bool:
    return any(name in values for name in _arguments(op.inputs))


def _arguments(slots: Any) -> list[str]:
    return [name for slot in slots for name in slot.arguments]


def _result(op: Any) -> str:
    return (_arguments(op.outputs) or [op.type])[0]
