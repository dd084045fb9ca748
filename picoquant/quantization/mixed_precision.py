"""Which layers stay in floating point so that an INT8 model loses no more mAP than the user allows.

Layers are ranked by what each costs alone in INT8 (`picoquant.analysis`, signal-to-noise of the outputs on a few
images). The number that stays in float is doubled until the mAP is reached, then halved into. The fewest found so
are the fewest of this order; another choice of layers could do with less.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.int8.activations import target_tensors
from picoquant.int8.build import Int8Source
from picoquant.int8.fake_quant_run import load_source
from picoquant.int8.ignored_layers import layer_names, with_same_weight
from picoquant.int8.operators import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.weights import rounded_weight
from picoquant.paddle_program.batch_norm_folding import stored_bias
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.static import load_model, output_names, read_variable

LOG = logging.getLogger("picoquant")

# Counts an INT8 model's pieces on each NPU of the recipe, given its folder; empty where there is no opt.
Pieces = Callable[[Path], Mapping[str, int]]
_ALL_MEASURED = 8  # up to so many layers, the mAP of each step is measured
_FETCH = ("feed", "fetch")


@dataclass(frozen=True)
class Trial:
    """Some layers in float.

    Attributes:
        layers: how many of the ranked layers.
        mAP: of the model that would be written, 0 to 1.
    """

    layers: int
    mAP: float  # noqa: N815  as it is called in the files


@dataclass(frozen=True)
class LayerInFloat:
    """What a layer costs that stays in float, those before it in float already.

    Attributes:
        layer, output: its name and its result.
        alone_db: signal-to-noise of the network's outputs with this layer alone in INT8; None: not measured.
        mAP_before, mAP_after: without and with it in float; None where it was not measured.
        int8_runs: stretches of operators in INT8 between the layers in float, in the program's order; counted
            without opt, so no NPU pieces.
        npu_pieces: of each NPU of the recipe, as opt splits the model; empty without opt or NPU.
    """

    layer: str
    output: str
    alone_db: float | None
    mAP_before: float | None  # noqa: N815
    mAP_after: float | None  # noqa: N815
    int8_runs: int
    npu_pieces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MixedPrecision:
    """What stays in float, and why.

    Attributes:
        max_drop, fp32_mAP, int8_mAP: what was asked for, of the float model, and of the one all in INT8; None
            where the layers were named by the user.
        reached: whether the mAP is reached; when no choice does, no layer stays in float.
        int8_runs, npu_pieces: with all layers in INT8, see `LayerInFloat`.
        layers: what stays in float, the worst first.
        trials: all that was measured.
    """

    max_drop: float | None = None
    fp32_mAP: float | None = None  # noqa: N815
    int8_mAP: float | None = None  # noqa: N815
    reached: bool = True
    int8_runs: int = 1
    npu_pieces: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerInFloat, ...] = ()
    trials: tuple[Trial, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For quantization.json and the metrics."""
        values = asdict(self)
        values["trials"] = [[trial.layers, trial.mAP] for trial in self.trials]
        return values


def fewest_in_float(
    most: int, needed: float, measure: Callable[[int], float]
) -> tuple[int | None, tuple[Trial, ...]]:
    """The smallest number of ranked layers that reaches a mAP: doubled until it does, then halved into.

    Args:
        most: that can be tried.
        needed: the mAP.
        measure: the mAP with so many layers in float.

    Returns: the number, None when `most` does not reach it either; and all that was measured, in order.
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


def rank(
    source: Int8Source, executor: Any, feeds: Sequence[Mapping[str, np.ndarray]], config: InferConfig
) -> list[tuple[QuantizedOperator, float]]:
    """The operators that run in INT8, the one that costs most alone first, with its signal-to-noise in dB.

    Args:
        source: an INT8 model's weights and ranges.
        executor: of Paddle.
        feeds: images, one in each feed where the model takes any number.
        config: of the model folder.
    """
    from picoquant.quantization.analysis.analyse import analyse
    from picoquant.quantization.analysis.layers import find_layers
    from picoquant.quantization.analysis.network import Network, before_nms
    from picoquant.quantization.analysis.quantities import picodet_quantities

    with paddle.static.scope_guard(paddle.static.Scope()):
        model, scope = before_nms(load_source(source, executor)), paddle.static.global_scope()
        tensors = target_tensors(model.graph())
        layers = find_layers(model.graph(), source.operators)
        bits = source.settings.weight_bits
        rounded = {
            layer.name: rounded_weight(read_variable(scope, layer.operator.weight), layer.operator.axis, bits)
            for layer in layers
        }
        ranges = {n: QuantParams.symmetric(source.ranges[n]) for n in tensors.names if n in source.ranges}
        network = Network("fp32", model, executor, tensors, layers, ranges, rounded)
        if network.batch_size == 1 or network.batch_size < 0:
            feeds = [
                {name: value[i : i + 1] for name, value in feed.items()}
                for feed in feeds
                for i in range(len(next(iter(feed.values()))))
            ]
        names = [variable.name for variable in model.fetches]
        shapes = [variable.shape for variable in model.fetches]
        found = analyse(network, feeds, picodet_quantities(names, shapes, config))
        return [(cost.layer.operator, cost.worst()) for cost in found.worst_first()]


def in_order(
    ranked: Sequence[tuple[QuantizedOperator, float]],
) -> list[tuple[tuple[QuantizedOperator, ...], float]]:
    """Ranked operators, those with one weight together at the place of the worst."""
    operators, groups, seen = [operator for operator, _ in ranked], [], set()
    for operator, cost in ranked:
        if operator.weight not in seen:
            seen.add(operator.weight)
            groups.append((with_same_weight([operator], operators), cost))
    return groups


def int8_runs(program: Any, floats: Collection[str]) -> int:
    """Stretches of a program's operators that hold a layer in INT8, between the layers in float.

    Args:
        program: the float network.
        floats: results of the operators with weights that stay in float.
    """
    runs, inside = 0, False
    for op in program.global_block().ops:
        if op.type in _FETCH:
            continue
        if floats and set(op.output_arg_names) & set(floats):
            inside = False
        elif not inside:
            runs, inside = runs + 1, True
    return runs


def names_of(operators: Sequence[QuantizedOperator]) -> dict[str, str]:
    """The layer's name by result."""
    return {operator.output: name for operator, name in zip(operators, layer_names(operators))}


@dataclass(frozen=True)
class Tools:
    """What the search measures with.

    Attributes:
        executor: of Paddle.
        config: of the model folder.
        write: writes the INT8 model of a source aside and gives its folder.
        evaluate: mAP of a folder's model, 0 to 1.
        pieces: NPU pieces of a folder's model.
    """

    executor: Any
    config: InferConfig
    write: Callable[[Int8Source], Path]
    evaluate: Callable[[Path], float]
    pieces: Pieces


def reach_max_drop(
    source: Int8Source,
    tools: Tools,
    feeds: Callable[[], Sequence[Mapping[str, np.ndarray]]],
    max_drop: float,
    fp32: float,
    int8: float,
    as_float: Mapping[str, np.ndarray],
) -> tuple[MixedPrecision, Int8Source]:
    """Leave layers in float until the mAP is at most `max_drop` below that of FP32.

    Args:
        source: all in INT8.
        tools: see there.
        feeds: gives a few images; called when the mAP is not reached without.
        max_drop, fp32, int8: mAPs, 0 to 1.
        as_float: weights and biases before they were changed for INT8, by name: what a layer in float takes.

    Returns: what was found, and what the INT8 model is made from.
    """
    needed = fp32 - max_drop
    with paddle.static.scope_guard(paddle.static.Scope()):
        program = load_model(source.folder, tools.executor).program
    before = _as_float(program, source.operators, as_float)
    start = MixedPrecision(max_drop, fp32, int8, True, int8_runs(program, _floats(program, source, ())))
    if int8 >= needed:
        LOG.info("quantize: mAP %.4f is within %g of FP32's %.4f, all in INT8", int8, max_drop, fp32)
        return start, source
    LOG.info("quantize: mAP %.4f is below %.4f (FP32 - max_drop): ranking layers", int8, needed)
    order = in_order(rank(source, tools.executor, feeds(), tools.config))

    def with_float(count: int) -> Int8Source:
        kept = {operator.output for operators, _ in order[:count] for operator in operators}
        left = tuple(operator for operator in source.operators if operator.output not in kept)
        weights = dict(source.weights)
        for output in kept:
            weights.update(before[output])
        return replace(source, operators=left, weights=weights, kept_float=frozenset(kept))

    def measure(count: int) -> float:
        return tools.evaluate(tools.write(with_float(count)))

    found, trials = fewest_in_float(len(order) - 1, needed, measure)
    start = replace(start, npu_pieces=tools.pieces(tools.write(source)))
    if found is None:
        LOG.warning(
            "quantize: Quantize.max_drop %g is not reached with all layers but one in float either: the model "
            "stays all in INT8 (mAP %.4f, FP32 %.4f); is the evaluated model the one that was trained?",
            max_drop,
            int8,
            fp32,
        )
        return replace(start, reached=False, trials=trials), source
    measured = {0: int8, **{trial.layers: trial.mAP for trial in trials}}
    for count in range(1, found if found <= _ALL_MEASURED else 0):
        if count not in measured:
            measured[count] = measure(count)
    names, rows = names_of(source.operators), []
    for count, (operators, cost) in enumerate(order[:found], start=1):
        made = with_float(count)
        rows.append(
            LayerInFloat(
                layer=", ".join(names[operator.output] for operator in operators),
                output=", ".join(operator.output for operator in operators),
                alone_db=cost if np.isfinite(cost) else None,
                mAP_before=measured.get(count - 1),
                mAP_after=measured.get(count),
                int8_runs=int8_runs(program, _floats(program, source, made.operators)),
                npu_pieces=tools.pieces(tools.write(made)),
            )
        )
    trials = tuple(Trial(count, value) for count, value in sorted(measured.items()) if count)
    mixed = replace(start, layers=tuple(rows), trials=trials)
    say(mixed)
    return mixed, with_float(found)


def say(mixed: MixedPrecision) -> None:
    """Log each layer in float and what it costs."""
    pieces, runs, known = mixed.npu_pieces, mixed.int8_runs, "mAP not measured"
    for row in mixed.layers:
        if row.mAP_before is not None and row.mAP_after is not None:
            known = f"mAP {row.mAP_before:.4f} -> {row.mAP_after:.4f}"
        split = ", ".join(
            f"{name}: NPU pieces {pieces.get(name)} -> {count}" for name, count in row.npu_pieces.items()
        )
        LOG.info(
            "quantize: %s stays in float: %s, %s",
            row.layer,
            known,
            split or f"runs of INT8 operators {runs} -> {row.int8_runs} (no opt or NPU: pieces not counted)",
        )
        pieces, runs, known = row.npu_pieces, row.int8_runs, "mAP not measured"


def named_by_user(
    source: Int8Source, tools: Tools, all_operators: Sequence[QuantizedOperator]
) -> MixedPrecision:
    """What the layers cost that `keep_float` names (together; their mAP is the model's)."""
    with paddle.static.scope_guard(paddle.static.Scope()):
        program = load_model(source.folder, tools.executor).program
    int8 = {operator.output for operator in source.operators}
    names = names_of(all_operators)
    kept = [operator for operator in all_operators if operator.output not in int8]
    pieces = tools.pieces(tools.write(source))
    rows, floats = [], set()
    for operator in kept:
        floats.add(operator.output)
        last = operator is kept[-1]
        rows.append(
            LayerInFloat(
                names[operator.output],
                operator.output,
                None,
                None,
                None,
                int8_runs(program, floats),
                pieces if last else {},
            )
        )
    return MixedPrecision(layers=tuple(rows), int8_runs=int8_runs(program, ()))


def _floats(program: Any, source: Int8Source, left: Sequence[QuantizedOperator]) -> set[str]:
    """Results of the operators with weights that are not in INT8; `left` empty: all of `source` are."""
    int8 = {operator.output for operator in (left or source.operators)}
    kinds = set(source.settings.quantize_op_types)
    block = program.global_block()
    return {
        output_names(op)[0]
        for op in block.ops
        if op.type in kinds
        and output_names(op)[0] not in int8
        and any(block.var(name).persistable for name in op.input_arg_names)
    }


def _as_float(
    program: Any, operators: Sequence[QuantizedOperator], as_float: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """By result: the operator's weight and bias before they were changed for INT8, those that were."""
    block = program.global_block()
    found = {}
    for operator in operators:
        users = [op for op in block.ops if operator.output in op.input_arg_names]
        bias = stored_bias(block, users[0]) if len(users) == 1 else None
        names = (operator.weight, bias)
        found[operator.output] = {name: as_float[name] for name in names if name in as_float}
    return found
