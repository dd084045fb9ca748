"""Folds batch-norms into the convolutions before them, as an NPU's compiler does, but before quantisation.

An NPU has no batch-norm: its compiler multiplies the factor into the weights, which are then already rounded,
and adds the shift to the INT32 sums. Here both are done in FP32, before quantisation: `conv2d -> batch_norm`
becomes `conv2d -> elementwise_add` with a stored bias `[C]` at axis 1, the form that Paddle Lite and
paddle2onnx read as a convolution with bias. Biases of other forms (`[1, C, 1, 1]`, or `[C]` behind a reshape)
are converted to it as well.
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
    """The result of `fold_batch_norm`.

    Attributes:
        folded: names of the results of the folded batch-norms.
        kept: for each batch-norm that was not folded, the name of its result -> the reason.
    """

    folded: tuple[str, ...]
    kept: dict[str, str]


def fold_folder(folder: Path) -> FoldingReport:
    """`fold_model` in its own static session.

    Raises: `WeightsError` if the files cannot be read.
    """
    with static_session():
        return fold_model(folder, paddle.static.Executor(paddle.CPUPlace()))


def fold_model(folder: Path, executor: Any) -> FoldingReport:
    """Fold the batch-norms of the FP32 model in a folder; its files are replaced.

    Args:
        folder: holds `model.pdmodel` and `model.pdiparams`.
        executor: a `paddle.static.Executor`.

    Raises: `WeightsError` if the files cannot be read.
    """
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        model = load_model(folder, executor)
        report = fold_batch_norm(model.program, scope)
        save_program(model.program, executor, folder)
    return report


def fold_batch_norm(program: Any, scope: Any) -> FoldingReport:
    """Fold every batch-norm in test mode that is the only user of a convolution's result.

    The result of a batch-norm keeps its name. The convolution's own result changes its value and so gets a
    new name: no code that refers to the old name can read the wrong value.

    Args:
        program: an inference program with its fetch operators; changed in place.
        scope: holds its stored variables; the new weights and biases are written to it.
    """
    block = program.global_block()
    _normalise_biases(block, scope)
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
    """Name of the stored bias `[C]` that an `elementwise_add` adds at axis 1; None for other operators."""
    if op.type != "elementwise_add":
        return None
    variable = block._find_var_recursive(op.input("Y")[0])
    if variable is None or not adds_bias(op.type, op.attr("axis"), variable.persistable, len(variable.shape)):
        return None
    return variable.name


def _fold(block: Any, scope: Any, norm: Any) -> str | None:
    """Fold one batch-norm; returns None, or the reason why it cannot be folded."""
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
    """Multiply the weight of a convolution by a factor `[C]`; a weight that is shared is copied first."""
    weight = conv.input("Filter")[0]
    value = read_variable(scope, weight).astype(np.float64)
    value = (value * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    name = weight
    if _users(block, weight) > 1:
        name = f"{weight}.{conv.output('Output')[0]}"
        Inserter(block, 0).variable(name, block.var(weight), persistable=True)
        conv._rename_input(weight, name)
    write_variable(scope, name, value)


def _normalise_biases(block: Any, scope: Any) -> None:
    """Convert each stored bias of a convolution to the form `[C]` at axis 1."""
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
            flat = f"{add.output('Out')[0]}.bias"
            Inserter(block, 0).variable(flat, block.var(name), persistable=True, shape=[channels])
            write_variable(scope, flat, value.reshape(-1))
            name = flat
        add._rename_input(add.input("Y")[0], name)
        add._set_attr("axis", 1)
        if reshape is not None and not _users(block, reshape.output("Out")[0]):
            _remove(block, reshape)


def _drop_unused(block: Any) -> None:
    """Remove stored variables that no operator uses; they would otherwise be written into the model."""
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
