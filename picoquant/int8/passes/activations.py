"""The tensors of a network that an NPU holds in INT8, and which of them share their quantisation.

Paddle's INT8 program rounds the inputs of convolutions only. An NPU that runs INT8 only holds every tensor in
INT8, so each needs a range, but for those that never exist there, see `layers.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from picoquant.int8.operators import QuantizableOperator
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import CONVOLUTIONS, fused_layers

# Operators that only move or select values: their inputs and results have one range.
_SAME_RANGE = (
    "concat", "reshape2", "reshape", "transpose2", "transpose", "split", "slice", "strided_slice", "pool2d",
    "nearest_interp_v2", "nearest_interp", "squeeze2", "unsqueeze2", "flatten_contiguous_range",
    "channel_shuffle", "assign", "pad3d", "stack", "unstack", "gather", "tile", "expand_v2",
)  # fmt: skip
_NOT_COMPUTED = ("shape",)
_SUPPRESSION = "multiclass_nms"  # how the types of operators begin whose results are rows of detections


@dataclass(frozen=True)
class TargetTensors:
    """The tensors of a network on an NPU.

    Attributes:
        names: all that are held in INT8, in the order they are computed, the network's inputs first.
        groups: the same names; those of a group must have one range (unified scales). Most groups have one member.
        fused: tensors that never exist there, and the tensor each becomes part of.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    fused: dict[str, str]

    def group_of(self, name: str) -> tuple[str, ...]:
        """The group that holds a tensor."""
        return next(group for group in self.groups if name in group)


def target_tensors(graph: Graph) -> TargetTensors:
    """Find the tensors of a folded network, see `batch_norm_folding.fold_folder`.

    Detections, which suppression inside the network leaves, are none of them: no NPU computes these.
    """
    detections = behind_suppression(graph)
    fused = {name: layer.output for layer in fused_layers(graph).values() for name in layer.inner}
    names = [name for name in graph.inputs if graph.is_activation(name)]
    for op in graph.operators:
        if op.op_type not in _NOT_COMPUTED:
            names += [name for name in op.results if graph.is_activation(name) and _holds_values(graph, name)]
    names = [name for name in dict.fromkeys(names) if name not in fused and name not in detections]
    leader = {name: name for name in names}
    for op in graph.operators:
        if op.op_type in _SAME_RANGE or _is_identity(op):
            _unite(leader, [name for _, name in (*op.inputs, *op.outputs) if name in leader])
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_find(leader, name), []).append(name)
    return TargetTensors(tuple(names), tuple(map(tuple, groups.values())), fused)


def activation_quantisers(
    graph: Graph, operators: Sequence[QuantizableOperator], tensors: TargetTensors | None = None
) -> tuple[str, ...]:
    """Tensors that integer runtimes hold in INT8 without fail: what leads to operators in INT8, and their results.

    Not among them: what follows the last of these. An NPU has it in INT8, too; ONNX Runtime and CPUs do not, and
    eight bits of a score hold nothing of the low ones. Nor what a layer in float computes, or alone reads.

    Args:
        graph: folded.
        operators: what runs in INT8.
        tensors: of the graph, where they are known already.
    """
    tensors = tensors or target_tensors(graph)
    int8 = {operator.output for operator in operators}
    ends = {
        tensors.fused.get(op.name, op.name): op.name for op in graph.operators if op.op_type in CONVOLUTIONS
    }
    needed = {tensors.fused.get(operator.output, operator.output) for operator in operators}
    for op in reversed(graph.operators):
        if needed & {name for _, name in op.outputs}:
            needed.update(name for _, name in op.inputs)

    def in_float(op: Operator) -> bool:
        return op.op_type in CONVOLUTIONS and op.name not in int8

    def stays_float(name: str) -> bool:
        computed_in_float = name in ends and ends[name] not in int8
        read_in_float = name not in graph.outputs and all(in_float(op) for op in graph.users(name))
        return computed_in_float or read_in_float

    return tuple(name for name in tensors.names if name in needed and not stays_float(name))


def unified_ranges(
    ranges: Mapping[str, float], groups: Sequence[Sequence[str]], first: Collection[str] = ()
) -> dict[str, float]:
    """Ranges of which those of a group are equal: the largest, so that nothing more is clipped.

    Args:
        ranges: largest absolute values; a tensor of a group may be missing.
        groups: see `TargetTensors`.
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


def behind_suppression(graph: Graph) -> set[str]:
    """Names of all results of suppression, and of what is computed of these."""
    found: set[str] = set()
    for op in graph.operators:
        if op.op_type.startswith(_SUPPRESSION) or any(name in found for _, name in op.inputs):
            found.update(name for _, name in op.outputs)
    return found


def _holds_values(graph: Graph, name: str) -> bool:
    """Whether a tensor holds values (reshape notes a shape in a second output, which does not)."""
    shape = graph.tensor(name).shape
    return not (shape and shape[0] == 0)


def _is_identity(op: Operator) -> bool:
    values = op.attributes
    return op.op_type == "scale" and values.get("scale", 1.0) == 1.0 and values.get("bias", 0.0) == 0.0


def _find(leader: dict[str, str], name: str) -> str:
    while leader[name] != name:
        name = leader[name]
    return name


def _unite(leader: dict[str, str], names: Sequence[str]) -> None:
    for name in names[1:]:
        first, other = _find(leader, names[0]), _find(leader, name)
        leader[other] = first
