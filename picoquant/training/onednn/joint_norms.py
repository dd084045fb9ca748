"""Batch-norms over the images of all processes on a tape: those that do not wait for each other share their messages.

A message takes longer than most batch-norms do. So all nodes that can go before batch-norms do, and those that are left
then, of the branches of a pyramid or of the head's levels, are told of together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from picoquant.training.joint_batch_norm.statistics import (
    Own,
    Processes,
    Sides,
    joint_gradients,
    joint_statistics,
    values_a_channel,
)
from picoquant.training.onednn.graph import Graph
from picoquant.training.onednn.library import Algorithm, Arg
from picoquant.training.onednn.lowering import Gradient, Lowering
from picoquant.training.onednn.nodes import BatchNorm, Node, reads
from picoquant.training.onednn.norms import Norm
from picoquant.training.onednn.tape import View, one_thread


def told_together(graph: Graph) -> Graph:
    """The graph with its batch-norms, but for fixed ones, in messages; those of one message stand side by side."""
    known, left = set(graph.inputs), list(graph.nodes)
    found: list[Node] = []
    message = 0
    while left:
        waiting: list[Node] = []
        for node in left:  # in their order each stands behind what it reads
            if _is_joint(node) or not known.issuperset(reads(node)):
                waiting.append(node)
            else:
                known.add(node.out)
                found.append(node)
        told = [node for node in waiting if isinstance(node, BatchNorm) and node.x in known]
        found += [replace(node, message=message) for node in told]
        known.update(node.out for node in told)
        left = [node for node in waiting if node not in told]
        message += 1
    return replace(graph, nodes=tuple(found))


def _is_joint(node: Node) -> bool:
    return isinstance(node, BatchNorm) and not node.fixed


def joint_batch_norms(lowering: Lowering, nodes: Sequence[BatchNorm], group: Processes) -> None:
    """Write batch-norms that are told of together.

    Forward each process finds the statistics of its own images, and normalises by those of all. Backward it takes them
    as constants, and the gradient of the source then loses what it does by way of them: with d the gradient of the
    result times scale / deviation, and m the means over all images, `d - m(d) - normalised * m(d * normalised)`. What
    is taken away is linear in the source.

    Raises: `ConfigError` where a channel has a single value.
    """
    norms = [Norm(lowering, node) for node in nodes]
    told = [_told(norm) for norm in norms]
    for norm in norms:
        norm.forward(fixed=False)
    views = [view for norm in norms for view in (norm.mean, norm.variance)]
    lowering.tape.add_call(partial(_join_statistics, group, told), views)
    for norm in norms:
        norm.forward(fixed=True)

    def backward() -> None:
        found = ((norm, lowering.take(norm.node.out)) for norm in norms)
        given = [(norm, gradient) for norm, gradient in found if gradient is not None]
        if given:
            _backward(lowering, given, group)

    lowering.backward.append(backward)


def _backward(lowering: Lowering, given: Sequence[tuple[Norm, Gradient]], group: Processes) -> None:
    views: list[View] = []
    passed: list[tuple[Norm, View, View, View]] = []
    for norm, gradient in given:
        target, of_scale, of_shift = norm.backward(gradient, fixed=True)
        slope, level = norm.zeros(), norm.zeros()
        passed.append((norm, target, slope, level))
        views += [of_scale, of_shift, norm.scale, norm.mean, norm.variance, slope, level]
    lowering.tape.add_call(partial(_join_gradients, group, [_told(norm) for norm, _ in given]), views)
    for norm, target, slope, level in passed:
        _add_linear(lowering, norm, target, slope, level)
        lowering.give(norm.node.x, target)


class _Told(NamedTuple):
    """Of a batch-norm: how many channels it has, how many values each has here, and what is added to the variance."""

    channels: int
    count: int
    epsilon: float


def _told(norm: Norm) -> _Told:
    return _Told(norm.source.layout.shape[1], values_a_channel(norm.layout.shape), norm.node.epsilon)


def _join_statistics(group: Processes, told: Sequence[_Told], *arrays: np.ndarray) -> None:
    """Replace means and variances of this process by those of all; `arrays`: both of each batch-norm."""
    parts = _divided(arrays, told)
    own = [Own(mean, variance, one.count) for one, (mean, variance) in zip(told, parts)]
    for (mean, variance), joint in zip(parts, joint_statistics(group, own)):
        mean[:], variance[:] = joint


def _join_gradients(group: Processes, told: Sequence[_Told], *arrays: np.ndarray) -> None:
    """Find what is to be added to the gradients of the sources.

    Args:
        group: all processes.
        told: of each batch-norm.
        arrays: of each gradients of scale and shift, scale, mean and variance, and where slope and level go.
    """
    parts = _divided(arrays, told)
    sums = [Sides(of_scale, of_shift, one.count) for one, (of_scale, of_shift, *_) in zip(told, parts)]
    for one, lost, (_, _, scale, mean, variance, slope, level) in zip(
        told, joint_gradients(group, sums), parts
    ):
        inverse = 1 / np.sqrt(variance.astype(np.float64) + one.epsilon)
        tilt = -scale * inverse**2 * lost.along
        slope[:], level[:] = tilt, -scale * inverse * lost.level - tilt * mean


def _divided(arrays: Sequence[np.ndarray], told: Sequence[_Told]) -> list[list[np.ndarray]]:
    """The arrays of each batch-norm, as many for each, without the channels that fill the last block."""
    each = len(arrays) // len(told)
    return [
        [array[: one.channels] for array in arrays[place * each : (place + 1) * each]]
        for place, one in enumerate(told)
    ]


def _add_linear(lowering: Lowering, norm: Norm, target: View, slope: View, level: View) -> None:
    """Add `slope [C] * source + level [C]` to a map."""
    tape, library = lowering.tape, lowering.library
    layout = norm.layout
    vector = lowering.map_layout((1, norm.channels, 1, 1), slope.layout.kind)
    with one_thread(layout.bytes):
        attributes = library.added_to_result(vector.address)
        made = library.made("binary_primitive_desc", library.engine, Algorithm.MUL, layout.address, vector.address,
                            layout.address, attributes)  # fmt: skip
        library.destroy("primitive_attr", attributes)
        arguments = {
            Arg.SRC: View(layout, norm.source.buffer),
            Arg.SRC_1: View(vector, slope.buffer),
            Arg.OF_SECOND_AFTERWARDS: View(vector, level.buffer),
            Arg.DST: View(layout, target.buffer),
        }
        tape.add(made, arguments)
