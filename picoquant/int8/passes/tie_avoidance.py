"""Scales with which no result of integer arithmetic lies near the middle between two levels.

An INT8 operator rounds `n * M` to a level, where n is a whole number (a sum of products of levels) and M is made of
scales: `input * weight / result`. Near the middle between two levels the last bit of M and the order of operations
decide, so that runtimes that are all correct give different levels, and a network as narrow as PicoDet-S-NPU makes
many of a few.

With `M = m / d` and an odd d that cannot happen: `n * m / d = k + 1/2` means `2 * n * m = d * (2 * k + 1)`, where the
left side is even and the right one odd. What is nearest to a middle is `1 / (2 * d)` of a level away from it: with a d
of 2,048 ten times what float32 loses of 127 levels, less in channels with a far smaller M, which are almost dead.
Scales change by less than 1 in 1,300 for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.paddle_program.graph import Graph, Operator

_PARTS = 2048  # d is about this, or 1 / M where that is more
_AXES_OF_AN_IMAGE = 4


@dataclass(frozen=True)
class Product:
    """A tensor whose levels are rounded from whole numbers: products of levels, or sums of levels.

    Attributes:
        result: its name.
        factors: tensors whose levels are multiplied; one, where levels are added.
        count: what a sum is divided by to be a mean; 1 for products.
    """

    result: str
    factors: tuple[str, ...]
    count: int = 1


def tie_free_factor(factor: np.ndarray) -> np.ndarray:
    """The nearest `m / d` with an odd d of about 2048, or of about `1 / factor` where that is more.

    Args:
        factor: above 0, any shape, float64.
    """
    parts = np.maximum(np.rint(factor * _PARTS), 1)
    return parts / (2 * np.rint((parts / factor - 1) / 2) + 1)


def tie_free_scales(scales: np.ndarray, input_step: float, result_step: float) -> np.ndarray:
    """Scales of a weight, each the nearest with which results are far from the middle between two levels.

    Args:
        scales: value of one level of the weight, `[channels]` or `[1]`.
        input_step: value of one level of the input.
        result_step: value of one level of the result.
    """
    step = result_step / input_step
    return tie_free_factor(scales.astype(np.float64) / step) * step


def products_of(graph: Graph) -> tuple[Product, ...]:
    """The products and means of a network, in its order.

    Args:
        graph: folded. Windows of unknown size, with a border, or of an odd number of values (no mean of those is
            at a tie) are left out.
    """
    found = []
    for op in graph.operators:
        if op.op_type == "elementwise_mul":
            names = op.input("X0"), op.input("Y0")
            if not any(graph.tensor(name).stored for name in names):
                found.append(Product(op.name, names))
        elif op.op_type == "pool2d" and op.attributes.get("pooling_type") == "avg":
            count = _values_of_a_window(op, graph)
            if count and count % 2 == 0:
                found.append(Product(op.name, (op.input("X0"),), count))
    return tuple(found)


def tie_free_ranges(
    ranges: Mapping[str, float],
    products: Sequence[Product],
    groups: Sequence[Sequence[str]],
    bits: int = 8,
) -> dict[str, float]:
    """Ranges with which products and means are far from the middle between two levels.

    Args:
        ranges: largest absolute values.
        products: see `products_of`.
        groups: tensors that have one range, see `tensors.target_tensors`. They keep it, but for the result of a mean,
            which may differ from what it is the mean of by 1 in 1,300.
    """
    free, levels = dict(ranges), 2 ** (bits - 1) - 1
    group_of = {name: group for group in groups for name in group}
    for product in products:
        if not all(free.get(name, 0.0) > 0 for name in (product.result, *product.factors)):
            continue
        exact = np.prod([free[name] / levels for name in product.factors]) / product.count
        top = float(exact / tie_free_factor(exact / (free[product.result] / levels)) * levels)
        mean = len(product.factors) == 1
        for name in [product.result] if mean else group_of.get(product.result, [product.result]):
            free[name] = top
    return free


def _values_of_a_window(op: Operator, graph: Graph) -> int:
    """How many values a pooling window holds; 0 where that is unknown or differs."""
    values, shape = op.attributes, graph.tensor(op.input("X0")).shape or ()
    size = tuple(values["ksize"])
    if values.get("global_pooling") or (values.get("adaptive") and set(size) == {1}):
        size = tuple(shape[2:]) if len(shape) == _AXES_OF_AN_IMAGE else (0,)
    elif values.get("adaptive") or any(values["paddings"]) or values.get("ceil_mode"):
        return 0
    return int(np.prod(size)) if min(size) > 0 else 0
