"""Batches as a network takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from picoquant.paddle_program.graph import Graph


def parts(
    graph: Graph, batch: Mapping[str, np.ndarray], most: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """A batch in parts, each with the number of images that the network is fixed to where there is one.

    Args:
        graph: of the network; its inputs alone are taken.
        batch: arrays by input name, the images first.
        most: images of a part of a network that takes any number; None: all.
    """
    feed = {name: batch[name] for name in graph.inputs}
    total = len(feed[graph.inputs[0]])
    fixed = (graph.tensor(graph.inputs[0]).shape or (-1,))[0]
    size = fixed if fixed >= 1 and total % fixed == 0 else min(total, most or total)
    for start in range(0, total, size):
        yield {name: value[start : start + size] for name, value in feed.items()}
