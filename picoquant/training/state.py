"""The complete state of a training, saved and restored as one checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import nn

from picoquant.storage.checkpoints import Checkpoint
from picoquant.training.ema import Ema
from picoquant.training.optimizer import make_optimizer, optimizer_state, restore_optimizer
from picoquant.training.precision import Precision
from picoquant.training.settings import TrainSettings


class Masks(Protocol):
    """What holds weights at 0 in a training; `picoquant.pruning.sparsifier.Sparsifier` is one.

    Attributes:
        identity: what a training must have the same to be continued.
        settled: whether the part of zeros is the one in the end. Until then no evaluation counts as the best, for the
            network of an earlier one is another.
    """

    @property
    def identity(self) -> str:
        """See above."""

    @property
    def settled(self) -> bool:
        """See above."""

    def after_update(self) -> None:
        """Choose and apply masks, after each update of the weights."""

    def masked(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights by name with zeros where the network has them."""

    def say(self, weights: Mapping[str, np.ndarray]) -> None:
        """One line about the zeros of some weights."""

    def state(self) -> dict[str, np.ndarray]:
        """What to continue from."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""


@dataclass
class Position:
    """The progress of a training.

    Attributes:
        step: number of batches done.
        evaluated: `step` of the last evaluation; 0 before the first.
        best_epoch: number of completed epochs at the best evaluation; 0 before the first.
        best: metrics of the best evaluation; empty before the first.
        not_better: evaluations in a row since then.
        stopped: training ends here, see `TrainSettings.early_stop`.
    """

    step: int = 0
    evaluated: int = 0
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    not_better: int = 0
    stopped: bool = False


class TrainState:
    """Network, optimiser, precision, average, masks and position.

    Args:
        model: the network.
        settings: how it is trained.
        steps_per_epoch: of the reader.
        masks: weights that are held at 0; None: none.
    """

    def __init__(
        self, model: nn.Layer, settings: TrainSettings, steps_per_epoch: int, masks: Masks | None = None
    ) -> None:
        self.model, self.position, self.masks = model, Position(), masks
        self.optimizer = make_optimizer(model, settings.optimizer, settings.learning_rate.base_lr)
        self.precision = Precision(settings.amp and paddle.get_device() != "cpu")
        self.trained = [value for value in model.parameters() if value.trainable]
        self.ema = Ema(model, settings.ema) if settings.ema else None
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        masked = [masks.identity] if masks else []
        trained = json.dumps([repr(settings), steps_per_epoch, shapes, *masked])
        self._identity = hashlib.sha256(trained.encode()).hexdigest()

    def checkpoint(self) -> Checkpoint:
        """The complete state, for `restore`."""
        arrays = {
            "model": arrays_of(self.model),
            "optimizer": optimizer_state(self.optimizer, self.model),
        }
        progress = {"identity": self._identity, "position": asdict(self.position)}
        progress["precision"] = self.precision.state()
        if self.ema:
            average, progress["ema"] = self.ema.state()
            arrays["ema"] = {"average": average}
        if self.masks:
            arrays["masks"] = self.masks.state()
        return Checkpoint(arrays, progress)

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Continue from a checkpoint.

        Returns: False, and nothing is changed, when the checkpoint is of another training: of other
            settings, shapes of parameters or number of steps per epoch.
        """
        if checkpoint.progress["identity"] != self._identity:
            return False
        assign(self.model, checkpoint.arrays["model"])
        restore_optimizer(self.optimizer, self.model, checkpoint.arrays.get("optimizer", {}))
        self.precision.restore(checkpoint.progress["precision"])
        if self.ema:
            self.ema.restore(checkpoint.arrays["ema"]["average"], checkpoint.progress["ema"])
        if self.masks:
            self.masks.restore(checkpoint.arrays["masks"])
        self.position = Position(**checkpoint.progress["position"])
        return True


def arrays_of(model: nn.Layer) -> dict[str, np.ndarray]:
    """Copies of all parameters and buffers by name."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


def assign(model: nn.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    """Set all parameters and buffers from arrays by name."""
    for name, value in model.state_dict().items():
        value.set_value(paddle.to_tensor(arrays[name]))


@contextmanager
def temporary_weights(model: nn.Layer, weights: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Within the block the network has these weights and is in evaluation mode."""
    own = arrays_of(model)
    assign(model, weights)
    model.eval()
    try:
        yield
    finally:
        assign(model, own)
