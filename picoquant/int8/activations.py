"""Which tensors an NPU holds in INT8, and which of them must have one range.

PaddleSlim's INT8 model rounds the inputs of convolutions only. An NPU that runs INT8 only holds every tensor in
INT8, so each needs a range, but for those that never exist there: the sum of a convolution before its bias
is added, before a batch-norm, and before a ReLU or ReLU6 that follows alone (Paddle Lite's NNAdapter fuses all; source:
`fuse_conv2d_add_into_conv2d.cc`, `fuse_conv2d_batch_norm_into_conv2d.cc`, `fuse_conv2d_activation_into_conv2d.cc`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.int8.operators import QuantizedOperator
from picoquant.paddle_program.batch_norm_folding import CONVOLUTIONS, stored_bias
from picoquant.paddle_program.static import is_activation, output_names

# Operators that only move or select values: what goes in and what comes out has one range.
_SAME_RANGE = (
    "concat", "reshape2", "reshape", "transpose2", "transpose", "split", "slice", "strided_slice", "pool2d",
    "nearest_interp_v2", "nearest_interp", "squeeze2", "unsqueeze2", "flatten_contiguous_range",
    "channel_shuffle", "assign", "pad3d", "stack", "unstack", "gather", "tile", "expand_v2",
)  # fmt: skip
_NORM = "batch_norm"
_FUSED_ACTIVATIONS = ("relu", "relu6")
_NOT_COMPUTED = ("feed", "fetch", "shape")


@dataclass(frozen=True)
class TargetTensors:
    """The tensors of a network on an NPU.

    Attributes:
        names: all that are held in INT8, in the order they are computed, the network's inputs first.
        groups: the same names; those of a group must have one range. Most groups have one member.
        fused: tensors that never exist there, and the tensor each becomes part of.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    fused: dict[str, str]

    def group_of(self, name: str) -> tuple[str, ...]:
        """The group that holds a tensor."""
        return next(group for group in self.groups if name in group)


def target_tensors(program: Any, feeds: Sequence[str]) -> TargetTensors:
    """Find the tensors of a folded program.

    Args:
        program: see `folding.fold_batch_norm`.
        feeds: its inputs.
    """
    block = program.global_block()
    ops = [op for op in block.ops if op.type not in ("feed", "fetch")]
    users: dict[str, list[Any]] = {}
    for op in ops:
        for name in op.input_arg_names:
            users.setdefault(name, []).append(op)
    fetched = {name for op in block.ops if op.type == "fetch" for name in op.input_arg_names}
    fused = _fused(block, ops, users, fetched)
    names = [name for name in feeds if is_activation(block, name)]
    for op in ops:
        if op.type not in _NOT_COMPUTED:
            names += [name for name in output_names(op) if is_activation(block, name) and _kept(block, name)]
    names = [name for name in dict.fromkeys(names) if name not in fused]
    leader = {name: name for name in names}
    for op in ops:
        if op.type in _SAME_RANGE or _is_identity(op):
            _unite(leader, [n for n in (*op.input_arg_names, *output_names(op)) if n in leader])
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_find(leader, name), []).append(name)
    return TargetTensors(tuple(names), tuple(map(tuple, groups.values())), fused)


def rounded_tensors(
    program: Any, feeds: Sequence[str], operators: Sequence[QuantizedOperator]
) -> tuple[str, ...]:
    """Tensors that integer runtimes hold in INT8 without fail: what leads to operators in INT8, and their results.

    Not among them: what follows the last of these. An NPU has it in INT8, too; ONNX Runtime and CPUs do not, and
    eight bits of a score hold nothing of the low ones. Nor what a layer in float gives, or takes alone.

    Args:
        program: see `target_tensors`.
        feeds: its inputs.
        operators: what runs in INT8.
    """
    tensors = target_tensors(program, feeds)
    block, int8 = program.global_block(), {operator.output for operator in operators}
    ends = {tensors.fused.get(name, name): name for name in _convolved(block)}
    wanted = {tensors.fused.get(operator.output, operator.output) for operator in operators}
    for op in reversed(block.ops):
        if op.type not in ("feed", "fetch") and wanted & set(op.output_arg_names):
            wanted.update(op.input_arg_names)

    def in_float(op: Any) -> bool:
        return op.type in CONVOLUTIONS and op.output("Output")[0] not in int8

    def stays(name: str) -> bool:
        given = name in ends and ends[name] not in int8
        return given or all(in_float(op) for op in block.ops if name in op.input_arg_names)

    return tuple(name for name in tensors.names if name in wanted and not stays(name))


def _convolved(block: Any) -> list[str]:
    """Results of the convolutions."""
    return [op.output("Output")[0] for op in block.ops if op.type in CONVOLUTIONS]


def _fused(block: Any, ops: list[Any], users: dict[str, list[Any]], fetched: set[str]) -> dict[str, str]:
    """Tensors inside a fused convolution, with the tensor that it gives."""
    fused: dict[str, str] = {}
    for op in ops:
        if op.type not in CONVOLUTIONS:
            continue
        name, inside = op.output("Output")[0], []
        for wanted in (stored_bias, _batch_norm, _fused_activation):
            after = users.get(name, [])
            if len(after) == 1 and name not in fetched and wanted(block, after[0]):
                inside.append(name)
                name = after[0].output("Y" if after[0].type == _NORM else "Out")[0]
        fused.update(dict.fromkeys(inside, name))
    return fused


def _batch_norm(block: Any, op: Any) -> bool:
    return op.type == _NORM


def _fused_activation(block: Any, op: Any) -> bool:
    return op.type in _FUSED_ACTIVATIONS


def _kept(block: Any, name: str) -> bool:
    """Whether a tensor holds values (reshape notes a shape in a second output, which does not)."""
    shape = block.var(name).shape
    return not (shape and shape[0] == 0)


def _is_identity(op: Any) -> bool:
    return op.type == "scale" and op.attr("scale") == 1.0 and op.attr("bias") == 0.0


def _find(leader: dict[str, str], name: str) -> str:
    while leader[name] != name:
        name = leader[name]
    return name


def _unite(leader: dict[str, str], names: Sequence[str]) -> None:
    for name in names[1:]:
        first, other = _find(leader, names[0]), _find(leader, name)
        leader[other] = first


def one_range_a_group(
    ranges: Mapping[str, float], groups: Sequence[Sequence[str]], first: Collection[str] = ()
) -> dict[str, float]:
    """Ranges of which those of a group are equal: the largest, so that nothing more is clipped.

    Args:
        ranges: largest absolute values; a tensor of a group may be missing.
        groups: see `tensors.target_tensors`.
        first: tensors whose range was learnt; where a group has such, only theirs count.

    Returns: the ranges; tensors of a group that have none stay without unless the group has one.
    """
    equal = dict(ranges)
    for group in groups:
        if len(group) == 1:
            continue
        known = [name for name in group if name in ranges]
        learnt = [name for name in known if name in first]
        if known:
            equal.update(dict.fromkeys(group, max(ranges[name] for name in learnt or known)))
    return equal
