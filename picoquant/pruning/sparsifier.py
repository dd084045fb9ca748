"""Unstructured pruning beside a training: the smallest weights are held at 0."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from picoquant.errors import ConfigError
from picoquant.pruning.masks import masks_of
from picoquant.pruning.names import chosen_weights, numbered, weights_of
from picoquant.pruning.ramp import Ramp, make_ramp
from picoquant.pruning.settings import UnstructuredPrunerSettings

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class Sparsity:
    """Zeros of a layer.

    Attributes:
        name: of its weights.
        shape: of them.
        zeros: how many are 0.
    """

    name: str
    shape: tuple[int, ...]
    zeros: int

    @property
    def weights(self) -> int:
        """How many there are."""
        return int(np.prod(self.shape))

    @property
    def part(self) -> float:
        """Part of the weights that are 0."""
        return self.zeros / self.weights


class Sparsifier:
    """Holds weights at 0 while a network is trained; see `picoquant.training.state.Masks`.

    After an update of the weights masks are chosen where the part of zeros changes, from the weights as the update
    left them, and applied: what PaddleSlim does before the next forward.

    Args:
        model: a `PicoDet`, before or in training.
        settings: how to prune.
        epochs: of the training.
        updates_per_epoch: updates of the weights in each.

    Raises: `ConfigError` for a layer to skip that the network does not have, when nothing is left to be pruned, or as
        `make_ramp`.
    """

    def __init__(
        self, model: nn.Layer, settings: UnstructuredPrunerSettings, epochs: int, updates_per_epoch: int
    ) -> None:
        self._settings = settings
        self._ramp: Ramp = make_ramp(settings, epochs, updates_per_epoch)
        weights = prunable(model, settings)
        self._weights = weights
        self._same = {name: _other_names(model, value) for name, value in weights.items()}
        self._masks = {name: paddle.ones(value.shape) for name, value in weights.items()}
        self._updates = 0

    @property
    def identity(self) -> str:
        """Settings and layers, for the identity of a training."""
        return repr((self._settings, sorted(self._weights)))

    @property
    def settled(self) -> bool:
        """Whether the part of zeros is the one that was asked for, and stays that."""
        return self._updates >= self._ramp.settled

    @paddle.no_grad()
    def after_update(self) -> None:
        """Choose and apply masks; call it after each update of the weights."""
        update = self._updates
        before = self._ramp.part(update - 1) if update else 0.0
        part = self._ramp.part(update)
        if self._settings.mode != "gmp" or part != before:
            self._choose(part)
        for name, value in self._weights.items():
            value.set_value(value * self._masks[name])
        self._updates += 1

    def _choose(self, part: float) -> None:
        settings = self._settings
        found = masks_of(
            {name: value.numpy() for name, value in self._weights.items()},
            part,
            settings.local_sparsity,
            settings.threshold if settings.mode == "threshold" else None,
        )
        for name, mask in found.items():
            self._masks[name].set_value(mask)

    def masked(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights by every name, with zeros where the network has them; an average of weights has none by itself."""
        found = dict(weights)
        for name, names in self._same.items():
            mask = self._masks[name].numpy()
            for one in names:
                found[one] = found[one] * mask
        return found

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` continues from: the masks, and the number of updates."""
        return {
            **{name: mask.numpy().astype(np.uint8) for name, mask in self._masks.items()},
            "@updates": np.array([self._updates], np.int64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        for name, mask in self._masks.items():
            mask.set_value(state[name].astype(np.float32))
        self._updates = int(state["@updates"][0])

    def say(self, weights: Mapping[str, np.ndarray]) -> None:
        """One line: how many of some weights are 0."""
        found = self.layers(weights)
        zeros, count = sum(one.zeros for one in found), sum(one.weights for one in found)
        aim = self._ramp.part(max(0, self._updates - 1))
        what = (
            f"threshold {self._settings.threshold:g}"
            if self._settings.mode == "threshold"
            else f"ratio {aim:.4f}"
        )
        LOG.info(
            "prune: %.2f %% of %d weights in %d layers are 0 (%s)",
            100 * zeros / count,
            count,
            len(found),
            what,
        )

    def layers(self, weights: Mapping[str, np.ndarray]) -> list[Sparsity]:
        """Zeros of each layer that is pruned, of weights by name."""
        return [
            Sparsity(name, tuple(weights[name].shape), int((weights[name] == 0).sum()))
            for name in self._weights
        ]


def prunable(model: nn.Layer, settings: UnstructuredPrunerSettings) -> dict[str, paddle.Tensor]:
    """The weights that are pruned, by name.

    Raises: `ConfigError` for a layer to skip that the network does not have, and when none is left.
    """
    weights = weights_of(model)
    by_number = numbered(model) if settings.skip_params else {}
    skipped: set[str] = set()
    for wanted in settings.skip_params:
        skipped.update(chosen_weights("UnstructuredPruner.skip_params", wanted, weights, by_number))
    found = {
        name: value
        for name, value in weights.items()
        if name not in skipped and (settings.prune_params_type is None or _is_pointwise(value))
    }
    if not found:
        raise ConfigError("UnstructuredPruner.skip_params: no layer is left to be pruned")
    return found


def _is_pointwise(value: paddle.Tensor) -> bool:
    return len(value.shape) == 4 and tuple(value.shape[2:]) == (1, 1)


def _other_names(model: nn.Layer, value: paddle.Tensor) -> list[str]:
    return [name for name, one in model.state_dict().items() if one is value]
