"""Adaptive rounding: weights rounded so that a convolution's result changes least, not each weight.

Rounding every weight to the nearest quantised value is not best where the inputs are correlated: errors of several
weights can cancel. With the Hessian `H`, the second moments of the inputs that a convolution multiplies with its
weights on the calibration images, the expected squared error of its result is `e H e`, `e` the weights' rounding
errors. It is lowered one weight at a time (coordinate descent, QuantEase, https://arxiv.org/abs/2309.01885); scales
stay those of INT8. `H` has a hundredth of its mean diagonal added, as in GPTQ (https://arxiv.org/abs/2210.17323).
Nearest rounding has the least sum of squares of `e`, so what lowers this cost lowers `e H e` too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.weights import quantise_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.paddings import explicit_paddings
from picoquant.quantization.ptq.zeros import kept_zeros

_SWEEPS = 20
_DAMPING = 0.01
_POSITIONS = 2048  # of a batch's result whose inputs are used
_HESSIAN_VALUES = 1 << 24  # at most, of a convolution: 64 MB; a larger one is rounded to nearest
# A rounded weight is stored at most this many scales from its quantised value, as near to what it was as that allows.
_WITHIN = 0.49


@dataclass(frozen=True)
class Window:
    """The part of its input that a convolution uses for each value of its result.

    Attributes:
        size, strides, dilations: (height, width), pixels.
        pads: top, bottom, left, right, pixels.
        groups: number of channel groups.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    @classmethod
    def of(cls, conv: Operator, height: int, width: int, size: tuple[int, int]) -> Window:
        """The window of an operator.

        Args:
            conv: the operator.
            height, width: of its input, pixels.
            size: (height, width) of its weight.
        """
        attributes = conv.attributes
        strides, dilations = tuple(attributes["strides"]), tuple(attributes["dilations"])
        if attributes.get("padding_algorithm") == "SAME":
            dilations = (1, 1)
        pads = explicit_paddings(attributes, size, (height, width))
        return cls(size, strides, dilations, pads, attributes["groups"])

    def patches(self, value: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
        """The inputs of some values of the result.

        Args:
            value: input `[N, C, H, W]`.
            most: number of positions of the result; where it has fewer, all are used.
            generator: draws the positions.

        Returns: `[positions, groups, C / groups * height * width]`, in the order of a weight's values.
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
        chosen = np.arange(count) if count <= most else generator.choice(count, most, replace=False)
        image, row, column = np.unravel_index(chosen, (images, rows, columns))
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
        return np.stack(parts, axis=-1).reshape(len(chosen), self.groups, -1)


class Hessian:
    """The Hessian of each convolution's squared error, summed over batches.

    Args:
        graph: of the float network, batch-norm folded.
        operators: what becomes INT8; those that are no convolution are left out.

    Attributes:
        by_weight: second moments of the inputs, `[groups, n, n]` float32, by name of the weight; `n` the weights of
            an output channel.
    """

    def __init__(self, graph: Graph, operators: Iterable[QuantizableOperator]) -> None:
        self._generator = np.random.default_rng(0)
        self._users: dict[str, list[tuple[Operator, QuantizableOperator, tuple[int, ...]]]] = {}
        self.by_weight: dict[str, np.ndarray] = {}
        for operator in operators:
            conv, shape = graph.producer(operator.output), graph.tensor(operator.weight).shape
            if operator.op_type not in CONVOLUTIONS or conv.attributes.get("data_format") == "NHWC":
                continue
            if conv.attributes["groups"] * int(np.prod(shape[1:])) ** 2 <= _HESSIAN_VALUES:
                self._users.setdefault(operator.activation, []).append((conv, operator, shape))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that `add` needs."""
        return tuple(self._users)

    def add(self, name: str, value: np.ndarray, params: QuantParams) -> None:
        """Add a batch.

        Args:
            name: of an input.
            value: `[N, C, H, W]`, as the float network computes it.
            params: what it is quantised with.
        """
        scale = params.scale
        rounded = np.clip(np.rint(value / scale), params.low, params.high) * np.float32(scale)
        for conv, operator, shape in self._users[name]:
            window = Window.of(conv, *value.shape[2:], shape[2:])
            seen = window.patches(rounded.astype(np.float32), _POSITIONS, self._generator).transpose(1, 0, 2)
            moments = np.matmul(seen.transpose(0, 2, 1), seen)
            self.by_weight[operator.weight] = self.by_weight.get(operator.weight, 0) + moments


def best_quantised_values(
    exact: np.ndarray, hessian: np.ndarray, fixed: np.ndarray, quant_max: int = 127
) -> np.ndarray:
    """Quantised values of weights with a low squared error of the result.

    Args:
        exact: weights `[groups, rows, n]`, divided by their scales.
        hessian: `[groups, n, n]`.
        fixed: `[groups, rows, n]` or what broadcasts to it: which weights are rounded to nearest.
        quant_max: the largest quantised value.

    Returns: whole numbers `[groups, rows, n]`; no group's and row's error exceeds that of rounding to nearest.
    """
    exact, fixed = exact.astype(np.float64), np.broadcast_to(fixed, exact.shape)
    hessian = hessian.astype(np.float64)
    diagonal = np.einsum("gnn->gn", hessian)
    hessian = hessian + np.eye(hessian.shape[-1]) * _DAMPING * diagonal.mean(-1)[:, None, None]
    nearest = np.clip(np.rint(exact), -quant_max, quant_max)
    found = [_descend(exact, start, hessian, fixed, quant_max) for start in (nearest, exact)]
    costs = [np.einsum("gri,gij,grj->gr", e, hessian, e, optimize=True) for e in (q - exact for q in found)]
    return np.where((costs[0] <= costs[1])[..., None], *found)


def _descend(
    exact: np.ndarray, start: np.ndarray, hessian: np.ndarray, fixed: np.ndarray, quant_max: int
) -> np.ndarray:
    """Give each weight in turn the best quantised value for the others as they are, until none changes.

    Started from the exact weights, the first sweep rounds each so that it cancels the errors of those before it.
    """
    values = np.where(fixed, np.clip(np.rint(exact), -quant_max, quant_max), start)
    slopes = np.matmul(values - exact, hessian)
    for _ in range(_SWEEPS):
        changed = False
        for i in range(exact.shape[-1]):
            own = np.maximum(hessian[:, i, i], 1e-30)[:, None]
            best = np.clip(np.rint(values[..., i] - slopes[..., i] / own), -quant_max, quant_max)
            change = np.where(fixed[..., i], 0.0, best - values[..., i])
            groups, rows = np.nonzero(change)
            if not len(groups):
                continue
            changed = True
            values[groups, rows, i] = best[groups, rows]
            slopes[groups, rows] += change[groups, rows, None] * hessian[groups, i]
        if not changed:
            break
    return values


def round_adaptively(
    operators: Iterable[QuantizableOperator],
    weights: Mapping[str, np.ndarray],
    hessian: Mapping[str, np.ndarray],
    bits: int = 8,
) -> dict[str, np.ndarray]:
    """Weights whose nearest quantised values are those that change the results least.

    Args:
        operators: what becomes INT8.
        weights: `[out, in / groups, height, width]` float32, by name.
        hessian: `[groups, n, n]` by weight, see `Hessian.by_weight`; weights that it lacks stay.
        bits: of a weight.

    Returns: the weights that were moved, float32, by name. Their ranges are the same, bit by bit, and the zeros of a
        pruned weight stay.
    """
    quant_max = 2 ** (bits - 1) - 1
    found: dict[str, np.ndarray] = {}
    for operator in operators:
        name = operator.weight
        if name not in hessian or name in found:
            continue
        weight, groups = weights[name], len(hessian[name])
        absmax = quantise_weight(weight, operator.axis, bits)[1]
        scale = (absmax / np.float32(quant_max)).astype(np.float64)
        scale = scale.reshape(-1, 1, 1, 1) if operator.axis >= 0 else scale
        exact = weight / scale
        # What sets the range must stay.
        fixed = np.abs(exact) > quant_max - 0.5
        zeros = kept_zeros(weight)
        if zeros is not None:
            fixed |= zeros
        shape = (groups, len(weight) // groups, -1)
        values = best_quantised_values(exact.reshape(shape), hessian[name], fixed.reshape(shape), quant_max)
        values = values.reshape(weight.shape)
        near = np.clip(exact, values - _WITHIN, values + _WITHIN) * scale
        found[name] = np.where(np.rint(exact) == values, weight, near).astype(np.float32)
    return found
