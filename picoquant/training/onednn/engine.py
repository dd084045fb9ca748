"""A method of a layer, as Paddle has traced it, on oneDNN's primitives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle
from paddle import nn

from picoquant.training.joint_batch_norm.statistics import Processes
from picoquant.training.onednn.graph import Graph, UnsupportedError, read
from picoquant.training.onednn.library import AVX2, AVX512, BF16_DOT, Kind, Tag, library
from picoquant.training.onednn.nodes import stored
from picoquant.training.onednn.part import Part


def engine_of(
    program: Any, layer: nn.Layer, precision: Kind, group: Processes | None = None
) -> Callable[[Any], Any]:
    """What computes the program, and its gradients, in its place.

    Args:
        program: Paddle's program of a method with one argument, a map or a list of maps.
        layer: has the parameters.
        precision: of the feature maps.
        group: all processes, where batch-norms are over the images of all; all have this program.

    Raises: `UnsupportedError` where something of the program is not known, or oneDNN is not there.
    """
    block = program._origin_main_program.global_block()
    names = [value.name for value in program._inputs.tolist()]
    outputs = [value.name for value in program._outputs.tolist()]
    parameters = {one.name: one for one in (*layer.parameters(), *layer.buffers())}
    part = part_of(read(block, names, outputs), parameters, precision, group)

    def call(maps: Any) -> Any:
        inputs = list(maps) if isinstance(maps, (list, tuple)) else [maps]
        return program._restore_out(part(inputs))

    return call


def part_of(
    graph: Graph,
    parameters: Mapping[str, Any],
    precision: Kind = Kind.F32,
    group: Processes | None = None,
    read: Mapping[str, Any] | None = None,
) -> Part:
    """What computes a graph; for the arguments see `Part`.

    Raises: `UnsupportedError` where it reads anything but parameters, or oneDNN is not there.
    """
    found = library()
    if found is None:
        raise UnsupportedError("no oneDNN of version 3")
    if not found.has(AVX2):
        raise UnsupportedError("a processor without AVX2")
    for name in (name for node in graph.nodes for name in stored(node)):
        if name not in parameters:
            raise UnsupportedError(f"{name}, which is computed from parameters")
    tag = Tag.BLOCKS_OF_16 if found.has(AVX512) else Tag.BLOCKS_OF_8
    return Part(found, graph, parameters, precision, tag, group, read)


def bfloat16_available() -> bool:
    """Whether this processor multiplies bfloat16, and oneDNN is there for it."""
    found = library()
    return found is not None and paddle.get_device() == "cpu" and found.has(BF16_DOT)
