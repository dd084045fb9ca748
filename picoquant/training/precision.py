"""Automatic mixed precision (level O1: float16 for operators that paddle lists as safe) on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.optimizer import Optimizer


class Precision:
    """Computes in float32, or in mixed precision with a scaled loss.

    Args:
        amp: mixed precision.
    """

    def __init__(self, amp: bool) -> None:
        self._amp = amp
        self._scaler = paddle.amp.GradScaler(init_loss_scaling=1024) if amp else None

    def forward(self) -> AbstractContextManager[Any]:
        """Context manager for the computation of the loss."""
        return paddle.amp.auto_cast(enable=self._amp, level="O1")

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to the parameters' gradients; in mixed precision they are scaled."""
        (self._scaler.scale(loss) if self._scaler else loss).backward()

    def step(self, optimizer: Optimizer) -> None:
        """Update the parameters; in mixed precision the update is skipped when a gradient overflowed."""
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """The state of the loss scaling for `restore`, JSON-able; empty in float32."""
        if self._scaler is None:
            return {}
        return {name: np.asarray(value).tolist() for name, value in self._scaler.state_dict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state`."""
        if self._scaler is not None and state:
            scale = np.asarray(state["scale"], "float32").reshape([-1])
            self._scaler.load_state_dict({**state, "scale": scale})
