"""Exponential moving average of a network's parameters and buffers.

Source of the rules: PaddleDetection 2.6, ppdet/optimizer/ema.py (ModelEMA). The average starts from
zero; `weights` corrects the bias this causes by a division, except with the exponential decay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from picoquant.training.settings import EmaSettings

_HORIZON = 2000  # updates over which the exponential decay rises, PaddleDetection's constant


class Ema:
    """The average of a network's weights.

    The averaged tensors are stored one after another in one flat tensor, so that an update takes a handful
    of operations, whatever the number of layers.

    Args:
        model: the network; its tensors are read at every update.
        settings: type of the average, and which tensors are excluded from it.
    """

    def __init__(self, model: nn.Layer, settings: EmaSettings) -> None:
        self._settings = settings
        self._names = model.state_dict()  # a tensor may have several names
        excluded = _not_averaged(model, self._names, settings)
        tensors = {id(value): value for value in self._names.values()}
        self._tensors = {key: value for key, value in tensors.items() if key not in excluded}
        self._average = paddle.zeros([sum(value.size for value in self._tensors.values())])
        self._step, self._evaluations, self._decay = 0, 0, 0.0

    @paddle.no_grad()
    def update(self) -> None:
        """Update the average with the network's current weights."""
        self._decay = decay = self._next_decay()
        current = paddle.concat([value.flatten() for value in self._tensors.values()])
        self._average = decay * self._average + (1 - decay) * current
        self._step += 1

    def weights(self) -> dict[str, np.ndarray]:
        """The weights to evaluate, by every name in the network's state.

        Each call counts as an evaluation: after `cycle_epoch` of them the average is reset.
        """
        average = self._average
        if self._step and self._settings.decay_type != "exponential":
            # As in PaddleDetection, as if every update had used the last decay.
            average = average / (1 - self._decay**self._step)
        parts = self._split(average.numpy())
        weights = {
            name: parts[id(value)] if id(value) in parts else value.numpy()
            for name, value in self._names.items()
        }
        self._evaluations += 1
        if self._evaluations == self._settings.cycle_epoch:
            self._step, self._evaluations = 0, 0
            self._average = paddle.zeros_like(self._average)
        return weights

    def state(self) -> tuple[np.ndarray, dict[str, Any]]:
        """The state for `restore`: the flat average, and JSON-able counters."""
        return self._average.numpy(), {
            "step": self._step,
            "evaluations": self._evaluations,
            "decay": self._decay,
        }

    def restore(self, average: np.ndarray, numbers: dict[str, Any]) -> None:
        """Continue from the `state` of an average of the same network."""
        self._average = paddle.to_tensor(average)
        self._step, self._evaluations = numbers["step"], numbers["evaluations"]
        self._decay = numbers["decay"]

    def _next_decay(self) -> float:
        decay, step = self._settings.decay, self._step
        if self._settings.decay_type == "threshold":
            return min(decay, (1 + step) / (10 + step))
        if self._settings.decay_type == "exponential":
            return decay * (1 - math.exp(-(step + 1) / _HORIZON))
        return decay

    def _split(self, flat: np.ndarray) -> dict[int, np.ndarray]:
        parts, start = {}, 0
        for key, value in self._tensors.items():
            parts[key] = flat[start : start + value.size].reshape(value.shape)
            start += value.size
        return parts


def _not_averaged(model: nn.Layer, names: dict[str, Tensor], settings: EmaSettings) -> set[int]:
    """Identities (`id`) of the tensors that are not averaged."""
    found = {
        id(value)
        for name, value in names.items()
        if value.dtype != paddle.float32 or any(part in name for part in settings.black_list)
    }
    if settings.filter_no_grad:
        statistics = {
            id(value)
            for layer in model.sublayers()
            if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm))
            for value in (layer._mean, layer._variance)
        }
        fixed = {id(value) for value in model.parameters() if value.stop_gradient}
        found |= fixed - statistics
    return found
