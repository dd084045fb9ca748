"""Scales with which the ends of a hard-swish's gate are integers.

`hard_swish(x) = x * clip(x + 3, 0, 6) / 6`: below -3 the gate is closed, above 3 it is open. With a scale of `3 / n`
and the zero point `z`, both ends are integers of `x`, `z - n` and `z + n`, so that the gate is nothing but the integers
of `x` within these ends: a runtime without a table for functions needs no operator that computes it, and rounds nothing
but the product. Such a scale is next to any: of a tensor that reaches 6 symmetrically 3 is 63 or 64 steps, so it
changes by 0.8 % at most. Where the nearest is further away than `_MOVED`, a tensor keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.paddle_program.graph import Graph

_END = 3.0  # of the gate, to both sides of 0
_MOVED = 0.02  # of a scale, or of one end of a range with a zero point, at most
_WHOLE = 2e-5  # of a step: what scales in float32 may be off by, with up to 255 steps
_OPERATOR = "hard_swish"
_USUAL = {"threshold": 6.0, "scale": 6.0, "offset": 3.0}


def steps_of_gate(scale: float, zero: int) -> int | None:
    """How many steps of a tensor the gate of its hard-swish takes to each side of 0, where that is a whole number.

    Args:
        scale: value of one step.
        zero: steps below 0.0 that the tensor's integers have; the gate must close within them.

    Returns: None where the gate ends between two integers or below them.
    """
    steps = round(_END / scale)
    return steps if 0 < steps <= zero and abs(_END / scale - steps) < _WHOLE else None


def gated_tensors(graph: Graph) -> tuple[str, ...]:
    """The computed tensors that a usual hard-swish takes, in the network's order."""
    found = (
        op.input("X0")
        for op in graph.operators
        if op.op_type == _OPERATOR
        and all(abs(float(op.attributes.get(key, value)) - value) < 1e-6 for key, value in _USUAL.items())
    )
    return tuple(dict.fromkeys(name for name in found if name and not graph.tensor(name).stored))


def gate_ranges(
    ranges: Mapping[str, float],
    gated: Sequence[str],
    groups: Sequence[Sequence[str]],
    bits: int = 8,
    zero_points: Mapping[str, int] | None = None,
) -> tuple[dict[str, float], dict[str, int]]:
    """Ranges and zero points with which the gates of hard-swishes end at integers, where such are near enough.

    Args:
        ranges: value of 127 steps of each tensor (of 8 bits).
        gated: see `gated_tensors`; those without a range are left out.
        groups: tensors that have one scale and one zero point.
        bits: of an activation.
        zero_points: signed, of the tensors that are not symmetric.
    """
    found, zeros = dict(ranges), dict(zero_points or {})
    for group in groups:
        known = [name for name in group if name in found]
        if not known or set(group).isdisjoint(gated):
            continue
        zero = zeros.get(known[0])
        if zero is None:
            value = _symmetric(found[known[0]], bits)
        else:
            value, zero = _with_zero_point(found[known[0]], zero, bits)
            zeros.update(dict.fromkeys(known, zero))
        found.update(dict.fromkeys(known, value))
    return found, zeros


def _symmetric(value: float, bits: int) -> float:
    """The nearest range with a whole number of steps to the gate's ends, which are within the integers; or `value`."""
    largest = 2 ** (bits - 1) - 1
    wanted = _END * largest / value
    steps = [n for n in (np.floor(wanted), np.ceil(wanted), largest + 1.0) if 0 < n <= largest + 1]
    best = min((_END * largest / n for n in steps), key=lambda one: abs(one / value - 1), default=value)
    return float(best) if abs(best / value - 1) <= _MOVED else value


def _with_zero_point(value: float, zero: int, bits: int) -> tuple[float, int]:
    """The same of a range with a zero point, which may be moved, too, so that the gate closes within the integers."""
    largest, all_steps = 2 ** (bits - 1) - 1, 2**bits - 1
    scale, below = value / largest, zero + largest + 1
    high = (all_steps - below) * scale
    best, least = (value, zero), _MOVED
    for steps in np.floor(_END / scale) + np.arange(-1, 3):
        if not 0 < steps <= all_steps:
            continue
        other = _END / steps
        down = max(float(steps), np.rint(below * scale / other))
        lost = 1 - (all_steps - down) * other / high if high > 0 else 0.0
        cost = max(abs(other / scale - 1), lost)
        if down <= all_steps and cost <= least:
            best, least = (float(other * largest), int(down) - largest - 1), cost
    return best
