"""Ranges of activations, averaged over batches by operators inserted into the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import paddle

from picoquant.errors import DataError
from picoquant.paddle_program.static.onednn import read_weights_each_time
from picoquant.paddle_program.static.programs import (
    InferenceModel,
    Inserter,
    is_activation,
    output_names,
    read_variable,
    strip_feed_fetch,
    write_variable,
)

_SUFFIX = "@observed"
_PARTS = ("scale", "state", "accum")


class NotFiniteError(DataError):
    """An activation is infinite or NaN."""


def observe_ranges(
    model: InferenceModel,
    executor: Any,
    batches: Iterable[dict[str, np.ndarray]],
    shown: Callable[[int], None],
) -> dict[str, float]:
    """The absmax of every activation, averaged over batches.

    Args:
        model: the network, whose variables are in the current scope; its program is not changed.
        executor: of Paddle.
        batches: arrays by input name, the batch first; all of them are used.
        shown: called with the number of batches that are done.

    Returns: absmax by variable, inputs of the network included.

    Raises: `NotFiniteError` naming the first variable that is not finite and the batch; `DataError` without a batch.
    """
    program = strip_feed_fetch(model.program.clone(for_test=True))
    read_weights_each_time(program)
    names = _insert_observers(program, model.feeds)
    scope = paddle.static.global_scope()
    for name in names:
        for part in _PARTS:
            write_variable(scope, f"{name}{_SUFFIX}.{part}", np.zeros(1, np.float32))
    count = 0
    for count, batch in enumerate(batches, start=1):
        for feed in _parts(model, batch):
            executor.run(program, feed=feed, fetch_list=[])
        _check_finite(scope, names, count)
        shown(count)
    if not count:
        raise DataError("there is no image to measure activation ranges on")
    return {name: float(read_variable(scope, f"{name}{_SUFFIX}.scale")[0]) for name in names}


def _parts(model: InferenceModel, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """A batch at once, or in parts where the model's number of images is fixed."""
    block = model.program.global_block()
    feed = {name: batch[name] for name in model.feeds}
    total = len(feed[model.feeds[0]])
    size = block.var(model.feeds[0]).shape[0]
    size = total if size < 1 or total % size else size
    for start in range(0, total, size):
        yield {name: value[start : start + size] for name, value in feed.items()}


def _insert_observers(program: Any, feeds: tuple[str, ...]) -> list[str]:
    """Add an operator behind every activation that keeps the mean of its absmax; names are returned."""
    block = program.global_block()
    names: list[str] = []
    index = 0
    fresh = list(feeds)
    while True:
        inserter = Inserter(block, index)
        for name in fresh:
            if name in names or not is_activation(block, name):
                continue
            names.append(name)
            source = block.var(name)
            scale, state, total = (
                inserter.variable(f"{name}{_SUFFIX}.{part}", source, persistable=True, shape=[1])
                for part in _PARTS
            )
            inserter.operator(
                "moving_average_abs_max_scale",
                {"X": source, "InState": state, "InAccum": total},
                {"OutScale": scale, "OutState": state, "OutAccum": total},
                {"moving_rate": 1.0, "is_test": False},
            )
        index = inserter.index
        if index >= len(block.ops):
            break
        fresh = output_names(block.ops[index])
        index += 1
    program._sync_with_cpp()
    return names


def _check_finite(scope: Any, names: list[str], batch: int) -> None:
    for name in names:
        if not np.isfinite(read_variable(scope, f"{name}{_SUFFIX}.scale")).all():
            raise NotFiniteError(
                f"activation {name} is not finite in calibration batch {batch}: check the model's "
                "weights and that the images are prepared as infer_cfg.yml says"
            )
