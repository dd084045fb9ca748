"""Scales with which no result of integer arithmetic lies near the middle between two levels.

An INT8 operator rounds `n * M` to a level, where n is a whole number (a sum of products of levels) and M is made of
scales: `input * weight / result`. Near the middle between two levels the last bit of M and the order of operations
decide, so that runtimes that are all correct give different levels, and a network as narrow as PicoDet-S-NPU makes
many of a few.

With `M = m / d` and an odd d that cannot happen: `n * m / d = k + 1/2` means `2 * n * m = d * (2 * k + 1)`, where the
left side is even and the right one odd. What is nearest to a middle is `1 / (2 * d)` of a level away from it: with a d
of 2,048 ten times what float32 loses of 127 levels, less in channels with a far smaller M, which are almost dead.
Scales change by less than 1 in 1,300 for it.

Some NPUs multiply by the first 16 bits of M (`targets/integer_rules.py`, `truncate`). What is left off is up to 1 in
32,768 of a result, at 127 levels more than that distance. So of the fractions near M one is taken of which 16 bits
leave off less than the distance, but more than what scales in float32 may move it by: then these NPUs give the same
levels, too. Where M is below about 1 in 10,000 there is none, and the one that comes nearest to it is taken.

A zero point is a whole number: it moves levels, not where middles are. Tensors with one have up to 255 levels on a
side.

A function of one tensor has as many results as that has levels. Those of a hard sigmoid between -3 and 3 lie on the
middle every other time: where any is near, the result's range is moved as little as takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.int8.functions import Function, function_of
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator

_PARTS = 2048  # d is about this, or 1 / M where that is more
_NUMERATORS = np.tile(np.arange(48), 7)  # tried: above the first
_DIVISORS = np.repeat(2 * np.array([0, -1, 1, -2, 2, -3, 3]), 48)  # beside the nearest odd one
_MOVED = 1 / 1300  # of a factor, at most
_BITS = 16  # of the multiplier of NPUs that truncate it
_LARGEST = 127.5  # levels: the middle that is farthest from 0; twice as many levels with a zero point
_JITTER = 4e-7  # of a factor: three scales in float32, multiplied and divided
_FAR = 1e9  # above every other cost
_AXES_OF_AN_IMAGE = 4
_COMPUTING = ("hard_sigmoid", "hard_swish", "leaky_relu", "sigmoid", "silu", "swish", "tanh")
_NEAR = 1 / 4096  # of a level from a middle
_MOVES = np.arange(1, 13) / 16384  # of a range, at most 1 in 1,300


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


@dataclass(frozen=True)
class Table:
    """A tensor whose levels are rounded from a function of another's levels.

    Attributes:
        result, source: their names.
        function: of one value.
    """

    result: str
    source: str
    function: Function


def tie_free_factor(factor: np.ndarray, largest: float = _LARGEST) -> np.ndarray:
    """A near `m / d` with an odd d of about 2048 or more, of which 16 bits leave off next to nothing.

    Args:
        factor: above 0, any shape, float64.
        largest: levels: the middle between two that is farthest from 0.

    Returns: of the fractions within 1 in 1,300 the nearest of which truncation leaves off less than is between a
        result and the next middle; where there is none, the one that comes nearest to that.
    """
    wanted = np.asarray(factor, np.float64)[..., None]
    parts = np.maximum(np.rint(wanted * _PARTS), 1) + _NUMERATORS
    divisors = np.maximum(2 * np.rint((parts / wanted - 1) / 2) + 1 + _DIVISORS, 1)
    found = parts / divisors
    move = np.abs(found / wanted - 1)
    lost = _left_off(found)
    reach = 2 * divisors * largest * (lost + _JITTER)  # parts of the distance to the next middle
    cost = np.where((reach < 1) & (lost > _JITTER), move, 1 + np.where(lost > _JITTER, reach, 1 / _JITTER))
    if largest > _LARGEST:  # levels are farther from 0: what float32 needs comes before what 16 bits do
        cost = np.where(2 * divisors * largest * _JITTER < 1, cost, _FAR + divisors)
    allowed = move < _MOVED
    allowed[..., 0] |= ~allowed.any(axis=-1)
    best = np.argmin(np.where(allowed, cost, np.inf), axis=-1)
    return np.take_along_axis(found, best[..., None], axis=-1)[..., 0]


def _left_off(factor: np.ndarray) -> np.ndarray:
    """The part of a factor that 16 bits leave off, from 0 to 1 / 32,768."""
    mantissa = np.ldexp(np.frexp(factor)[0], _BITS)
    return (mantissa - np.floor(mantissa)) / mantissa


def tie_free_scales(
    scales: np.ndarray, input_step: float, result_step: float, largest: float = _LARGEST
) -> np.ndarray:
    """Scales of a weight, each the nearest with which results are far from the middle between two levels.

    Args:
        scales: value of one level of the weight, `[channels]` or `[1]`.
        input_step: value of one level of the input.
        result_step: value of one level of the result.
        largest: see `tie_free_factor`.
    """
    step = result_step / input_step
    return tie_free_factor(scales.astype(np.float64) / step, largest) * step


def largest_middle(params: QuantParams) -> float:
    """The middle between two levels of a tensor that is farthest from 0, in levels; at least that of 8 bits."""
    return max(_LARGEST, -params.low + 0.5, params.high + 0.5)


def products_of(graph: Graph) -> tuple[Product | Table, ...]:
    """The products, means and functions of a network, in its order.

    Args:
        graph: folded. Windows of unknown size, with a border, or of an odd number of values (no mean of those is
            at a tie) are left out.
    """
    found: list[Product | Table] = []
    for op in graph.operators:
        if op.op_type == "elementwise_mul":
            names = op.input("X0"), op.input("Y0")
            if not any(graph.tensor(name).stored for name in names):
                found.append(Product(op.name, names))
        elif op.op_type == "pool2d" and op.attributes.get("pooling_type") == "avg":
            count = _values_of_a_window(op, graph)
            if count and count % 2 == 0:
                found.append(Product(op.name, (op.input("X0"),), count))
        elif op.op_type in _COMPUTING:
            found.append(Table(op.name, op.input("X0"), function_of(op.op_type, op.attributes)))
    return tuple(found)


def tie_free_ranges(
    ranges: Mapping[str, float],
    products: Sequence[Product | Table],
    groups: Sequence[Sequence[str]],
    bits: int = 8,
    zero_points: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Ranges with which products, means and functions are far from the middle between two levels.

    Args:
        ranges: values of 127 levels: largest absolute values where tensors are symmetric.
        products: see `products_of`.
        groups: tensors that have one range, see `tensors.target_tensors`. They keep it, but for the result of a mean,
            which may differ from what it is the mean of by 1 in 1,300. A group with a product goes by that.
        bits: of an activation.
        zero_points: of the tensors that are not symmetric.
    """
    free, levels, zeros = dict(ranges), 2 ** (bits - 1) - 1, zero_points or {}

    def params_of(name: str) -> QuantParams:
        return QuantParams.of_range(free[name], bits, zeros.get(name))

    group_of = {name: group for group in groups for name in group}
    tables: dict[
        str, list[tuple[Function, QuantParams]]
    ] = {}  # by the first tensor of their group, with the source's levels
    multiplied = {
        name for one in products if isinstance(one, Product) for name in group_of.get(one.result, ())
    }
    for product in products:
        if isinstance(product, Table):
            group = group_of.get(product.result, [product.result])
            known = free.get(product.result, 0.0) > 0 and free.get(product.source, 0.0) > 0
            if known and product.source not in group and product.result not in multiplied:
                tables.setdefault(group[0], []).append((product.function, params_of(product.source)))
                clear = _clear_of_ties(free[group[0]], tables[group[0]], params_of(group[0]))
                free.update(dict.fromkeys(group, clear))
            continue
        if not all(free.get(name, 0.0) > 0 for name in (product.result, *product.factors)):
            continue
        exact = np.prod([free[name] / levels for name in product.factors]) / product.count
        largest = largest_middle(params_of(product.result))
        top = float(exact / tie_free_factor(exact / (free[product.result] / levels), largest) * levels)
        mean = len(product.factors) == 1
        for name in [product.result] if mean else group_of.get(product.result, [product.result]):
            free[name] = top
    return free


def _clear_of_ties(top: float, tables: Sequence[tuple[Function, QuantParams]], params: QuantParams) -> float:
    """The range nearest to `top` with which no result is near the middle between two levels; if there is none, `top`.

    Args:
        top: a range.
        tables: functions whose results have it, each with the levels of what it is a function of.
        params: the results' levels.
    """
    levels = 2 ** (params.bits - 1) - 1
    values = [function(np.arange(one.low, one.high + 1) * one.scale) for function, one in tables]
    results = np.concatenate(values).astype(np.float64)
    for move in (0.0, *np.stack([_MOVES, -_MOVES], axis=1).ravel()):
        places = results / (top * (1 + move)) * levels
        inside = places[(places > params.low) & (places < params.high)]
        if not inside.size or np.abs(np.abs(inside) % 1 - 0.5).min() > _NEAR:
            return float(top * (1 + move))
    return top


def _values_of_a_window(op: Operator, graph: Graph) -> int:
    """How many values a pooling window holds; 0 where that is unknown or differs."""
    values, shape = op.attributes, graph.tensor(op.input("X0")).shape or ()
    size = tuple(values["ksize"])
    if values.get("global_pooling") or (values.get("adaptive") and set(size) == {1}):
        size = tuple(shape[2:]) if len(shape) == _AXES_OF_AN_IMAGE else (0,)
    elif values.get("adaptive") or any(values["paddings"]) or values.get("ceil_mode"):
        return 0
    return int(np.prod(size)) if min(size) > 0 else 0
