"""Weights rounded so that a convolution's result stays, not so that each weight does.

Rounding every weight to the nearest level is not best where the inputs are correlated: errors of several weights can
take each other back. With `H`, the second moments of what a convolution sees in the calibration images, the
expected squared error of its result is `e H e`, `e` the weights' rounding errors. It is lowered one weight at a
time (coordinate descent, QuantEase, https://arxiv.org/abs/2309.01885), levels and ranges staying those of INT8.
`H` has a hundredth of its mean diagonal added, as GPTQ does (https://arxiv.org/abs/2210.17323). Nearest rounding has
the least sum of squares of `e`, so what lowers this cost lowers `e H e` too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.int8.operators import QuantizedOperator
from picoquant.int8.weights import quantise_weight
from picoquant.paddle_program.batch_norm_folding import CONVOLUTIONS
from picoquant.paddle_program.paddings import explicit_paddings

_SWEEPS = 20
_DAMPING = 0.01
_POSITIONS = 2048  # places of a batch's result that are looked at
_MOST_MOMENTS = 1 << 24  # of a convolution: 64 MB; a larger one is rounded to nearest
# A rounded weight is stored at most this far from its level, as near to what it was as that allows.
_WITHIN = 0.49


@dataclass(frozen=True)
class Window:
    """What a convolution sees of its input for each value of its result.

    Attributes:
        size, strides, dilations: (height, width), pixels.
        pads: top, bottom, left, right, pixels.
        groups: of channels.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    @classmethod
    def of(cls, conv: Any, height: int, width: int, size: tuple[int, int]) -> Window:
        """Of a program's operator, for an input of a height and width and a weight `[…, height, width]`."""
        attributes = conv.all_attrs()
        strides, dilations = tuple(attributes["strides"]), tuple(attributes["dilations"])
        if attributes.get("padding_algorithm") == "SAME":
            dilations = (1, 1)
        pads = explicit_paddings(attributes, size, (height, width))
        return cls(size, strides, dilations, pads, conv.attr("groups"))

    def patches(self, value: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
        """What is seen at some places of the result.

        Args:
            value: input `[N, C, H, W]`.
            most: places; fewer are all of them.
            generator: draws them.

        Returns: `[places, groups, C / groups * height * width]`, in the order of a weight's values.
        """
        top, bottom, left, right = self.pads
        value = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
        images, channels = value.shape[:2]
        reach = [(kernel - 1) * step + 1 for kernel, step in zip(self.size, self.dilations)]
        rows, columns = (
            (length - need) // stride + 1
            for length, need, stride in zip(value.shape[2:], reach, self.strides)
        )
        count = images * rows * columns
        places = np.arange(count) if count <= most else generator.choice(count, most, replace=False)
        image, row, column = np.unravel_index(places, (images, rows, columns))
        parts = [
            value[
                image,
                :,
                row * self.strides[0] + y * self.dilations[0],
                column * self.strides[1] + x * self.dilations[1],
            ]
            for y in range(self.size[0])
            for x in range(self.size[1])
        ]
        return np.stack(parts, axis=-1).reshape(len(places), self.groups, -1)


class Moments:
    """Second moments of what each convolution sees, `[groups, n, n]`, summed over batches, by weight.

    Args:
        program: folded.
        operators: what becomes INT8; those that are no convolution are left out.
        bits: of an activation.
    """

    def __init__(self, program: Any, operators: Iterable[QuantizedOperator], bits: int = 8) -> None:
        block = program.global_block()
        self._generator = np.random.default_rng(0)
        self._levels = 2 ** (bits - 1) - 1
        self._seen: dict[str, list[tuple[Any, QuantizedOperator, tuple[int, ...]]]] = {}
        self.sums: dict[str, np.ndarray] = {}
        for operator in operators:
            conv = next(op for op in block.ops if operator.output in op.output_arg_names)
            shape = tuple(block.var(operator.weight).shape)
            if operator.kind not in CONVOLUTIONS or conv.attr("data_format") == "NHWC":
                continue
            if conv.attr("groups") * int(np.prod(shape[1:])) ** 2 <= _MOST_MOMENTS:
                self._seen.setdefault(operator.activation, []).append((conv, operator, shape))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that `add` takes."""
        return tuple(self._seen)

    def add(self, name: str, value: np.ndarray, largest: float) -> None:
        """Add a batch.

        Args:
            name: of an input.
            value: `[N, C, H, W]`, as the float network has it.
            largest: the range it is rounded with.
        """
        step = largest / self._levels
        rounded = np.clip(np.rint(value / step), -self._levels, self._levels) * np.float32(step)
        for conv, operator, shape in self._seen[name]:
            window = Window.of(conv, *value.shape[2:], shape[2:])
            seen = window.patches(rounded.astype(np.float32), _POSITIONS, self._generator).transpose(1, 0, 2)
            moments = np.matmul(seen.transpose(0, 2, 1), seen)
            self.sums[operator.weight] = self.sums.get(operator.weight, 0) + moments


def best_levels(exact: np.ndarray, moments: np.ndarray, fixed: np.ndarray, largest: int = 127) -> np.ndarray:
    """Whole numbers in place of weights, with a low squared error of the result.

    Args:
        exact: weights `[groups, rows, n]` in steps.
        moments: `[groups, n, n]`.
        fixed: `[groups, rows, n]` or what broadcasts to it: which weights are rounded to nearest.
        largest: level.

    Returns: levels, `[groups, rows, n]`; each group's and row's error is at most that of rounding to nearest.
    """
    exact, fixed = exact.astype(np.float64), np.broadcast_to(fixed, exact.shape)
    moments = moments.astype(np.float64)
    diagonal = np.einsum("gnn->gn", moments)
    moments = moments + np.eye(moments.shape[-1]) * _DAMPING * diagonal.mean(-1)[:, None, None]
    nearest = np.clip(np.rint(exact), -largest, largest)
    found = [_descend(exact, start, moments, fixed, largest) for start in (nearest, exact)]
    costs = [np.einsum("gri,gij,grj->gr", e, moments, e, optimize=True) for e in (q - exact for q in found)]
    return np.where((costs[0] <= costs[1])[..., None], *found)


def _descend(
    exact: np.ndarray, start: np.ndarray, moments: np.ndarray, fixed: np.ndarray, largest: int
) -> np.ndarray:
    """Give each weight in turn the best level for the others as they are, until none changes.

    From the exact weights, a first sweep rounds each so that it takes back what those before it cost.
    """
    levels = np.where(fixed, np.clip(np.rint(exact), -largest, largest), start)
    slopes = np.matmul(levels - exact, moments)
    for _ in range(_SWEEPS):
        changed = False
        for i in range(exact.shape[-1]):
            own = np.maximum(moments[:, i, i], 1e-30)[:, None]
            best = np.clip(np.rint(levels[..., i] - slopes[..., i] / own), -largest, largest)
            change = np.where(fixed[..., i], 0.0, best - levels[..., i])
            groups, rows = np.nonzero(change)
            if not len(groups):
                continue
            changed = True
            levels[groups, rows, i] = best[groups, rows]
            slopes[groups, rows] += change[groups, rows, None] * moments[groups, i]
        if not changed:
            break
    return levels


def reconstruct(
    operators: Iterable[QuantizedOperator],
    weights: Mapping[str, np.ndarray],
    moments: Mapping[str, np.ndarray],
    bits: int = 8,
) -> dict[str, np.ndarray]:
    """Weights that round to nearest to the levels that keep the results best.

    Args:
        operators: what becomes INT8.
        weights: `[out, in / groups, height, width]`, by name; those without moments stay.
        moments: see `Moments`.
        bits: of a weight.

    Returns: the weights that are others now, by name. Their ranges are the same, bit by bit.
    """
    largest = 2 ** (bits - 1) - 1
    found: dict[str, np.ndarray] = {}
    for operator in operators:
        name = operator.weight
        if name not in moments or name in found:
            continue
        weight, groups = weights[name], len(moments[name])
        scales = quantise_weight(weight, operator.axis, bits)[1]
        step = (scales / np.float32(largest)).astype(np.float64)
        step = step.reshape(-1, 1, 1, 1) if operator.axis >= 0 else step
        exact = weight / step
        # What sets the range must stay.
        fixed = np.abs(exact) > largest - 0.5
        shape = (groups, len(weight) // groups, -1)
        levels = best_levels(exact.reshape(shape), moments[name], fixed.reshape(shape), largest)
        levels = levels.reshape(weight.shape)
        near = np.clip(exact, levels - _WITHIN, levels + _WITHIN) * step
        found[name] = np.where(np.rint(exact) == levels, weight, near).astype(np.float32)
    return found
