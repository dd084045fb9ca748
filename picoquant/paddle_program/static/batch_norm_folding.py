"""Batch-norm folded into the convolution before it, so that what is quantised is what an NPU computes.

An NPU knows no batch-norm: its compiler multiplies the factor into the weights (after they were rounded, if
nobody did it before) and adds the shift to the sums in INT32. Here both happen in FP32, before anything is
rounded: `conv2d -> batch_norm` becomes `conv2d -> elementwise_add` with a stored bias `[C]` at axis 1, the
form that Paddle Lite and paddle2onnx take as a convolution with bias. Biases of other forms
(`[1, C, 1, 1]`, or `[C]` behind a reshape) become that one, too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.paddle_program.batch_norm import PARTS, factor_and_shift
from picoquant.paddle_program.layers import CONVOLUTIONS, adds_bias
from picoquant.paddle_program.static.programs import (
    Inserter,
    load_model,
    read_variable,
    save_program,
    write_variable,
)
from picoquant.paddle_program.static.session import static_session

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class FoldingReport:
    """What `fold_batch_norm` did.

    Attributes:
        folded: names of the batch-norms' results.
        kept: name of the result -> why that batch-norm stays.
    """

    folded: tuple[str, ...]
    kept: dict[str, str]


def fold_folder(folder: Path) -> FoldingReport:
    """`fold_model` in a static session of its own."""
    with static_session():
        return fold_model(folder, paddle.static.Executor(paddle.CPUPlace()))


def fold_model(folder: Path, executor: Any) -> FoldingReport:
    """Fold the batch-norms of the FP32 model in a folder; its files are replaced.

    Raises: `WeightsError` when they cannot be read.
    """
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        model = load_model(folder, executor)
        report = fold_batch_norm(model.program, scope)
        save_program(model.program, executor, folder)
    return report


def fold_batch_norm(program: Any, scope: Any) -> FoldingReport:
    """Fold every batch-norm in test mode that is the only user of a convolution's result.

    What a batch-norm computed keeps its name. The convolution's own result, now another value, gets a new
    one, so that nobody who knows the old name is given something else.

    Args:
        program: an inference program with its fetch operators; changed in place.
        scope: holds its stored variables; gets the new weights and biases.
    """
    block = program.global_block()
    _plain_biases(block, scope)
    folded, kept = [], {}
    for norm in [op for op in block.ops if op.type == "batch_norm"]:
        name = norm.output("Y")[0]
        reason = _fold(block, scope, norm)
        if reason is None:
            folded.append(name)
        else:
            kept[name] = reason
            LOG.debug("batch_norm %s is not folded: %s", name, reason)
    _drop_unused(block)
    program._sync_with_cpp()
    return FoldingReport(tuple(folded), kept)


def stored_bias(block: Any, op: Any) -> str | None:
    """Name of the bias `[C]` that an `elementwise_add` adds to each channel (axis 1); None for any other."""
    if op.type != "elementwise_add":
        return None
    variable = block._find_var_recursive(op.input("Y")[0])
    if variable is None or not adds_bias(op.type, op.attr("axis"), variable.persistable, len(variable.shape)):
        return None
    return variable.name


def _fold(block: Any, scope: Any, norm: Any) -> str | None:
    """Fold one; returns why it stays, or None when it is gone."""
    if not (norm.attr("is_test") or norm.attr("use_global_stats")):
        return "it normalises by its batch"
    if norm.attr("data_layout") != "NCHW":
        return "its channels are last"
    source = norm.input("X")[0]
    add, conv = None, _producer(block, source)
    if conv is not None and stored_bias(block, conv):
        add, conv = conv, _producer(block, conv.input("X")[0])
    if conv is None or conv.type not in CONVOLUTIONS:
        return "no convolution comes before it"
    raw = conv.output("Output")[0]
    if any(_users(block, name) != 1 for name in {source, raw}):
        return "something else uses the convolution's result"
    weight = conv.input("Filter")[0]
    if not block.var(weight).persistable:
        return "the convolution's weight is computed"
    bias = read_variable(scope, stored_bias(block, add)) if add is not None else 0.0
    parts = {slot: read_variable(scope, norm.input(slot)[0]) for slot in PARTS}
    factor, shift = factor_and_shift(parts, norm.attr("epsilon"), bias)
    _scale_weight(block, scope, conv, factor)
    output = norm.output("Y")[0]
    name = f"{output}.bias"
    index = next(i for i, op in enumerate(block.ops) if op is norm)
    inserter = Inserter(block, index)
    like = block.var(weight)
    write_variable(scope, name, shift)
    stored = inserter.variable(name, like, persistable=True, shape=[len(shift)])
    unbiased = inserter.variable(f"{output}.unbiased", block.var(output))
    conv._rename_output(raw, unbiased.name)
    result = block.var(output)
    inserter.operator("elementwise_add", {"X": unbiased, "Y": stored}, {"Out": result}, {"axis": 1})
    for op in [norm] + ([add] if add is not None else []):
        _remove(block, op)
    return None


def _scale_weight(block: Any, scope: Any, conv: Any, factor: np.ndarray) -> None:
    """Multiply a convolution's weight; where others use it, too, this one gets its own."""
    weight = conv.input("Filter")[0]
    value = read_variable(scope, weight).astype(np.float64)
    value = (value * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    name = weight
    if _users(block, weight) > 1:
        name = f"{weight}.{conv.output('Output')[0]}"
        Inserter(block, 0).variable(name, block.var(weight), persistable=True)
        conv._rename_input(weight, name)
    write_variable(scope, name, value)


def _plain_biases(block: Any, scope: Any) -> None:
    """Write each stored bias of a convolution as `[C]` at axis 1."""
    for add in [op for op in block.ops if op.type == "elementwise_add"]:
        conv = _producer(block, add.input("X")[0])
        if conv is None or conv.type not in CONVOLUTIONS or conv.attr("data_format") == "NHWC":
            continue
        name, reshape = add.input("Y")[0], _producer(block, add.input("Y")[0])
        if reshape is not None and reshape.type == "reshape2":
            name = reshape.input("X")[0]
        channels = block.var(conv.input("Filter")[0]).shape[0]
        if not block.var(name).persistable:
            continue
        shape, axis = tuple(block.var(add.input("Y")[0]).shape), add.attr("axis")
        if shape != (1, channels, 1, 1) and (shape != (channels,) or axis != 1):
            continue
        value = read_variable(scope, name)
        if value.shape != (channels,):
            plain = f"{add.output('Out')[0]}.bias"
            Inserter(block, 0).variable(plain, block.var(name), persistable=True, shape=[channels])
            write_variable(scope, plain, value.reshape(-1))
            name = plain
        add._rename_input(add.input("Y")[0], name)
        add._set_attr("axis", 1)
        if reshape is not None and not _users(block, reshape.output("Out")[0]):
            _remove(block, reshape)


def _drop_unused(block: Any) -> None:
    """Forget stored variables that no operator uses: they would be written into the model."""
    used = {name for op in block.ops for name in (*op.input_arg_names, *op.output_arg_names)}
    for name in [name for name, variable in block.vars.items() if variable.persistable]:
        if name not in used:
            block._remove_var(name, sync=False)


def _producer(block: Any, name: str) -> Any | None:
    return next((op for op in block.ops if name in op.output_arg_names), None)


def _users(block: Any, name: str) -> int:
    return sum(name in op.input_arg_names for op in block.ops)


def _remove(block: Any, op: Any) -> None:
    block._remove_op(next(i for i, other in enumerate(block.ops) if other is op), sync=False)
