"""The learning rate of QAT: AutoCompression's, multiplied by factors of picoquant's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Union

import paddle

LOG = logging.getLogger("picoquant")

_SHORTEST_RISE, _LONGEST_RISE = 2, 20  # steps


class LearningRate:
    """A number or a scheduler, multiplied by factors.

    Args:
        schedule: a number, or an object of `paddle.optimizer.lr`.
        scale: the linear rule's factor.

    Attributes:
        lowered: the divergence guard's factor, 1 before the first rollback.
    """

    def __init__(self, schedule: Union[float, paddle.optimizer.lr.LRScheduler], scale: float = 1.0) -> None:
        self._schedule, self._scale, self.lowered = schedule, scale, 1.0

    def __call__(self) -> float:
        """The rate of the next step."""
        schedule = self._schedule
        plain = float(schedule if isinstance(schedule, float) else schedule())
        return plain * self._scale * self.lowered

    def step(self) -> None:
        """Go on to the next step's rate."""
        if not isinstance(self._schedule, float):
            self._schedule.step()

    def state(self) -> dict[str, Any]:
        """The scheduler's state; empty for a number."""
        return {} if isinstance(self._schedule, float) else dict(self._schedule.state_dict())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        if state and not isinstance(self._schedule, float):
            self._schedule.set_state_dict(dict(state))


def warm_cosine(rate: float, steps: int) -> paddle.optimizer.lr.LRScheduler:
    """A cosine from `rate` to 0, behind a rise to it that takes a tenth of the steps, 20 at most.

    Args:
        rate: the highest.
        steps: of the whole training.
    """
    rise = min(steps // 10, _LONGEST_RISE)
    if rise < _SHORTEST_RISE:
        return paddle.optimizer.lr.CosineAnnealingDecay(rate, steps)
    cosine = paddle.optimizer.lr.CosineAnnealingDecay(rate, steps - rise)
    return paddle.optimizer.lr.LinearWarmup(cosine, rise, rate / rise, rate)


def linear_scale(batch_size: int, devices: int, reference: int | None) -> float:
    """The learning rate's factor by the linear rule (https://arxiv.org/abs/1706.02677); logged with its reason.

    Args:
        batch_size: images of a step on one device.
        devices: number of devices.
        reference: images of a step that `TrainConfig.learning_rate` is meant for; None: the factor is 1.
    """
    images = batch_size * devices
    what = f"{images} images a step ({devices} x {batch_size})"
    if reference is None:
        LOG.info("quantize: learning rate as it is, %s", what)
        return 1.0
    scale = images / reference
    LOG.info("quantize: learning rate x %g = %d / %d, %s", scale, images, reference, what)
    return scale
