"""A network's nodes with the rounding of what is held rounded between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from picoquant.training.onednn.graph import Graph, UnsupportedError
from picoquant.training.onednn.library import Algorithm
from picoquant.training.onednn.nodes import Function, Node, Round


class Levels(Protocol):
    """What a tensor is rounded to; see `qat.learned_ranges.fixed.Levels`."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def step(self) -> float: ...


class HeldRange(Protocol):
    """The range of a tensor that does not move."""

    def levels(self) -> Levels:
        """What the tensor is rounded to."""


def rounded(graph: Graph, levels: Mapping[str, Levels]) -> Graph:
    """A graph whose tensors are rounded where they have levels.

    A ReLU before rounding is part of it: limits are limited again, and so are gradients.

    Raises: `UnsupportedError` for a tensor that is no node's result.
    """
    made = {node.out: node for node in graph.nodes}
    missing = sorted(levels.keys() - made.keys())
    if missing:
        raise UnsupportedError(f"{missing[0]}, which is rounded within an operator")
    found: list[Node] = []
    for node in graph.nodes:
        if node.out not in levels:
            found.append(node)
            continue
        low, high, step = levels[node.out].low, levels[node.out].high, levels[node.out].step
        source = f"{node.out}@unrounded"
        ends = _limits(node)
        if ends is None:
            found.append(replace(node, out=source))
        else:
            source, low, high = node.x, max(low, ends[0]), min(high, ends[1])
        found.append(Round(source, node.out, low, high, step))
    return replace(graph, nodes=tuple(found))


def _limits(node: Node) -> tuple[float, float] | None:
    """The ends of a function that does nothing but limit a value."""
    if isinstance(node, Function) and node.algorithm is Algorithm.RELU_DST and not node.alpha:
        return 0.0, math.inf
    if isinstance(node, Function) and node.algorithm is Algorithm.CLIP_DST:
        return node.alpha, node.beta
    return None
