"""The fewest layers in float with which an INT8 model loses no more mAP than the user allows.

Layers are ranked by what each costs alone in INT8 (`ranker.py`). The number that stays in float is doubled until the
mAP is reached, then bisected. The result is the fewest layers of this order; another choice could do with fewer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from picoquant.int8.build import Int8Source
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import Graph
from picoquant.quantization.accuracy_control.evaluator import CandidateEvaluator
from picoquant.quantization.accuracy_control.float_layers import (
    float_outputs,
    int8_runs,
    names_by_output,
    original_params,
)
from picoquant.quantization.accuracy_control.ranker import RankedGroup
from picoquant.quantization.accuracy_control.report import LayerInFloat, MixedPrecision, Trial, log_layers

LOG = logging.getLogger("picoquant")

_ALL_MEASURED = 8  # up to so many layers, the mAP with every smaller number of layers is measured too


@dataclass(frozen=True)
class Goal:
    """The accuracy that must be reached; all mAPs from 0 to 1.

    Attributes:
        max_drop: what INT8 may lose.
        fp32: mAP of the float model.
        int8: mAP with all layers in INT8.
    """

    max_drop: float
    fp32: float
    int8: float

    @property
    def needed(self) -> float:
        """The least mAP that reaches the goal."""
        return self.fp32 - self.max_drop


@dataclass(frozen=True)
class Candidates:
    """The INT8 models that the search may choose from: with the first N ranked groups in float.

    Attributes:
        source: all layers in INT8.
        order: the ranked groups.
        originals: by result of an operator, its parameters before they were changed for INT8.
    """

    source: Int8Source
    order: Sequence[RankedGroup]
    originals: Mapping[str, Mapping[str, np.ndarray]]

    def with_float(self, count: int) -> Int8Source:
        """The model with the first `count` groups in float, their original parameters restored."""
        kept = {operator.output for group in self.order[:count] for operator in group.operators}
        left = tuple(operator for operator in self.source.operators if operator.output not in kept)
        weights = dict(self.source.weights)
        for output in kept:
            weights.update(self.originals[output])
        return replace(self.source, operators=left, weights=weights, ignored=frozenset(kept))


def fewest_in_float(
    most: int, needed: float, measure: Callable[[int], float]
) -> tuple[int | None, tuple[Trial, ...]]:
    """The smallest number of ranked layers in float that reaches a mAP: doubled until it does, then bisected.

    Args:
        most: the largest number to try.
        needed: the mAP, 0 to 1.
        measure: the mAP with so many layers in float.

    Returns: the number, None when `most` does not reach it either; and all trials, in order.
    """
    trials: list[Trial] = []

    def reaches(count: int) -> bool:
        trials.append(Trial(count, measure(count)))
        LOG.info(
            "quantize: %d layer%s in float: mAP %.4f, needed %.4f",
            count,
            "" if count == 1 else "s",
            trials[-1].mAP,
            needed,
        )
        return trials[-1].mAP >= needed

    low, high = 0, 1
    while most and not reaches(high):
        low, high = high, min(2 * high, most)
        if low == most:
            break
    if low == most:
        return None, tuple(trials)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high, tuple(trials)


def reach_goal(
    source: Int8Source,
    goal: Goal,
    evaluator: CandidateEvaluator,
    ranked: Callable[[Int8Source], Sequence[RankedGroup]],
    float_params: Mapping[str, np.ndarray],
) -> tuple[MixedPrecision, Int8Source]:
    """Leave layers in float until the mAP is at most `max_drop` below that of FP32.

    Args:
        source: all layers in INT8.
        goal: the mAP to reach.
        evaluator: measures candidates.
        ranked: ranks layers, see `ranker.rank`; called when the goal is not reached with all of them in INT8.
        float_params: weights and biases before they were changed for INT8, by name; a layer in float gets them.

    Returns: what was found, and what the INT8 model is made from.
    """
    graph = ProgramModel.load(source.folder).graph()
    originals = original_params(graph, source.operators, float_params)
    start = MixedPrecision(goal.max_drop, goal.fp32, goal.int8, True, _runs(graph, source))
    if goal.int8 >= goal.needed:
        LOG.info(
            "quantize: mAP %.4f is within %g of FP32's %.4f, all in INT8", goal.int8, goal.max_drop, goal.fp32
        )
        return start, source
    LOG.info("quantize: mAP %.4f is below %.4f (FP32 - max_drop): ranking layers", goal.int8, goal.needed)
    order = ranked(source)
    candidates = Candidates(source, order, originals)

    def measure(count: int) -> float:
        return evaluator.metric_of(candidates.with_float(count))

    found, trials = fewest_in_float(len(order) - 1, goal.needed, measure)
    start = replace(start, npu_pieces=evaluator.pieces_of(source))
    if found is None:
        LOG.warning(
            "quantize: Quantize.max_drop %g is not reached with all layers but one in float either: the model "
            "stays all in INT8 (mAP %.4f, FP32 %.4f); is the evaluated model the one that was trained?",
            goal.max_drop,
            goal.int8,
            goal.fp32,
        )
        return replace(start, reached=False, trials=trials), source
    measured = {0: goal.int8, **{trial.layers: trial.mAP for trial in trials}}
    for count in range(1, found if found <= _ALL_MEASURED else 0):
        if count not in measured:
            measured[count] = measure(count)
    trials = tuple(Trial(count, value) for count, value in sorted(measured.items()) if count)
    layers = _layers(candidates, found, graph, measured, evaluator)
    mixed = replace(start, layers=layers, trials=trials)
    log_layers(mixed)
    return mixed, candidates.with_float(found)


def _layers(
    candidates: Candidates,
    count: int,
    graph: Graph,
    measured: Mapping[int, float],
    evaluator: CandidateEvaluator,
) -> tuple[LayerInFloat, ...]:
    """What each of the first `count` groups costs; `measured`: mAP by number of groups in float."""
    names, rows = names_by_output(candidates.source.operators), []
    for number, group in enumerate(candidates.order[:count], start=1):
        model = candidates.with_float(number)
        rows.append(
            LayerInFloat(
                layer=", ".join(names[operator.output] for operator in group.operators),
                output=", ".join(operator.output for operator in group.operators),
                alone_db=group.alone_db if np.isfinite(group.alone_db) else None,
                mAP_before=measured.get(number - 1),
                mAP_after=measured.get(number),
                int8_runs=_runs(graph, model),
                npu_pieces=evaluator.pieces_of(model),
            )
        )
    return tuple(rows)


def _runs(graph: Graph, source: Int8Source) -> int:
    """Stretches of INT8 operators of a candidate."""
    int8 = {operator.output for operator in source.operators}
    return int8_runs(graph, float_outputs(graph, source.settings.quantize_op_types, int8))
