"""Adam whose steps are parts of a weight's own quantised steps (levels).

What a change of a weight does to an INT8 network depends on how many levels it is, not on its size: equalisation and
batch-norm folding leave weights whose levels differ by thousands. So the rate is the number of levels that the weights
of a tensor move in a step while their gradients agree (root mean square), the same for every network. Moments and their
correction are Adam's (https://arxiv.org/abs/1412.6980); the second is one number a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from picoquant.paddle_program.layers import CONVOLUTIONS, fused_layer
from picoquant.quantization.qat.student import Student

_FIRST, _SECOND = 0.9, 0.99  # decay of the moments
_EPSILON = 1e-12


class LevelOptimizer:
    """Changes parameters by their gradients; those without gradients stay.

    Args:
        parameters: named; those that are not among `levels` stay.
        levels: value of one level of each, broadcasting to its shape.
    """

    def __init__(self, parameters: Sequence[Any], levels: Mapping[str, np.ndarray]) -> None:
        self._parameters = [one for one in parameters if one.name in levels]
        self._levels = {
            one.name: paddle.to_tensor(np.broadcast_to(np.float32(levels[one.name]), one.shape).copy())
            for one in self._parameters
        }
        self._first = {one.name: paddle.zeros(one.shape) for one in self._parameters}
        self._second = {one.name: paddle.zeros([1]) for one in self._parameters}
        self._steps, self._rate = paddle.zeros([1]), 0.0

    def set_lr(self, rate: float) -> None:
        """Levels that weights move in the next step, root mean square while gradients agree."""
        self._rate = rate

    @paddle.no_grad()
    def step(self) -> None:
        """Change the parameters."""
        self._steps.set_value(self._steps + 1)
        count = self._steps.item()
        for one in self._parameters:
            if one.grad is None:
                continue
            first, second, level = self._first[one.name], self._second[one.name], self._levels[one.name]
            gradient = one.grad * level
            # `set_value` does the same, and takes a tenth of a millisecond to look at its arguments.
            first.copy_(_FIRST * first + (1 - _FIRST) * gradient, False)
            second.copy_(_SECOND * second + (1 - _SECOND) * (gradient**2).mean().reshape([1]), False)
            size = paddle.sqrt(second / (1 - _SECOND**count)) + _EPSILON
            one.copy_(one - self._rate * level * (first / (1 - _FIRST**count)) / size, False)

    def state_dict(self) -> dict[str, Any]:
        """Moments and number of steps."""
        found = {"levels@steps": self._steps}
        for name in self._first:
            found[f"{name}@first"], found[f"{name}@second"] = self._first[name], self._second[name]
        return found

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        for name, tensor in self.state_dict().items():
            tensor.set_value(state[name])


def levels_of(
    student: Student, ranges: Mapping[str, float], bits: tuple[int, int] = (8, 8)
) -> dict[str, np.ndarray]:
    """The value of one level of each weight in INT8, and of each bias that is added to their results.

    A bias has as many levels as its result.

    Args:
        student: before its first step.
        ranges: absmax of activations, by name.
        bits: of weights and of activations.

    Returns: by name, broadcasting to the weight's or bias' shape.
    """
    graph, stored = student.graph, student.network.stored
    most, most_of_result = (2 ** (one - 1) - 1 for one in bits)
    found = {}
    for operator in student.operators:
        weight = stored[operator.weight].numpy()
        others = tuple(axis for axis in range(weight.ndim) if axis != operator.axis)
        found[operator.weight] = np.abs(weight).max(axis=others, keepdims=True) / most
        if operator.op_type not in CONVOLUTIONS:
            continue
        layer = fused_layer(graph, graph.producer(operator.output))
        if layer.bias is not None and layer.output in ranges:
            found[layer.bias] = np.float32([ranges[layer.output] / most_of_result])
    return found
