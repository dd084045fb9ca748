"""Batches as a network takes them, and as many images at once as memory is meant for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from picoquant.paddle_program.graph import Graph

_VALUES = (
    400_000_000  # of activations held at once; XS at 320 px, prepared for INT8, has some 30 million an image
)
# Of a step of QAT, for each value of an activation: 10 to 13 were measured where it is one graph (S-NPU at 416 px, XS
# at 320 px, 2 to 8 images), 14 to 17 operator by operator.
_BYTES_A_VALUE = 17


def images_at_once(graph: Graph, values: int | None = None) -> int:
    """How many images may go through a network at once when all its activations are kept; at least 1.

    Args:
        graph: of the network, with the shapes of its tensors.
        values: numbers in them, of all images; None: as many as memory is meant for.
    """
    return max(1, (values or _VALUES) // max(1, _values_of_one(graph)))


def _values_of_one(graph: Graph) -> int:
    """Numbers in all activations of one image."""
    names = [name for op in graph.operators for name in op.results if graph.is_activation(name)]
    return sum(
        int(np.prod([max(size, 1) for size in (graph.tensor(name).shape or ())[1:]])) for name in names
    )


def images_that_fit(graph: Graph, free: int) -> int:
    """How many images a step of QAT may have at once in so many bytes of memory.

    Args:
        graph: of the network, with the shapes of its tensors.
        free: bytes.
    """
    return free // _BYTES_A_VALUE // max(1, _values_of_one(graph))


def cuts(graph: Graph, total: int, most: int | None = None) -> Iterator[slice]:
    """Where a batch is cut into parts, each with the number of images that the network is fixed to where there is one.

    Args:
        graph: of the network.
        total: images of the batch.
        most: images of a part of a network that takes any number; None: all.
    """
    fixed = (graph.tensor(graph.inputs[0]).shape or (-1,))[0]
    size = fixed if fixed >= 1 and total % fixed == 0 else min(total, most or total)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def parts(
    graph: Graph, batch: Mapping[str, np.ndarray], most: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """A batch in parts, see `cuts`.

    Args:
        graph: of the network; its inputs alone are taken.
        batch: arrays by input name, the images first.
        most: images of a part.
    """
    feed = {name: batch[name] for name in graph.inputs}
    for cut in cuts(graph, len(feed[graph.inputs[0]]), most):
        yield {name: value[cut] for name, value in feed.items()}
