"""Ranges of activations, averaged over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import paddle

from picoquant.errors import DataError
from picoquant.quantization.engine.feeds import parts
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.tracing.kernels import absmax_of


class NotFiniteError(DataError):
    """An activation is infinite or NaN."""


def observe_ranges(
    network: FakeQuantNetwork,
    names: Sequence[str],
    batches: Iterable[dict[str, np.ndarray]],
    shown: Callable[[int], None],
) -> dict[str, float]:
    """The absmax of activations, averaged over batches.

    Args:
        network: not changed.
        names: of the activations, inputs of the network may be among them.
        batches: arrays by input name, the batch first; all of them are used.
        shown: called with the number of batches that are done.

    Returns: absmax by name.

    Raises: `NotFiniteError` naming the first tensor that is not finite and the batch; `DataError` without a batch.
    """
    total, added, count = np.zeros(len(names), np.float32), 0, 0
    for count, batch in enumerate(batches, start=1):
        for feed in parts(network.graph, batch):
            found = _absmax(network, names, feed)
            wrong = np.flatnonzero(~np.isfinite(found))
            if wrong.size:
                raise NotFiniteError(
                    f"activation {names[wrong[0]]} is not finite in calibration batch {count}: check the model's "
                    "weights and that the images are prepared as infer_cfg.yml says"
                )
            total, added = total + found, added + 1
        shown(count)
    if not count:
        raise DataError("there is no image to measure activation ranges on")
    return dict(zip(names, (total / np.float32(added)).tolist()))


def _absmax(network: FakeQuantNetwork, names: Sequence[str], feed: dict[str, np.ndarray]) -> np.ndarray:
    with paddle.no_grad():
        tensors = {name: paddle.to_tensor(value) for name, value in feed.items()}
        return np.float32([absmax_of(one) for one in network.each(tensors, names)])
