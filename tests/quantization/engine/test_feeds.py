"""Batches in parts."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.paddle_program.graph import Graph, Operator, Tensor
from picoquant.quantization.engine.feeds import cuts, images_at_once, parts


def graph(images: int) -> Graph:
    """`relu` of an image, a map of 3 x 4 x 5 values, then its sum, 1 value."""
    tensors = [
        Tensor("image", (images, 3, 4, 5), "float32", False),
        Tensor("map", (images, 3, 4, 5), "float32", False),
        Tensor("sum", (images, 1), "float32", False),
        Tensor("weight", (1000,), "float32", True),
    ]
    operators = (
        Operator("map", "relu", (("X0", "image"),), (("Out0", "map"),), {}),
        Operator("sum", "reduce_sum", (("X0", "map"),), (("Out0", "sum"),), {}),
    )
    return Graph(operators, {one.name: one for one in tensors}, ("image",), ("sum",))


def test_as_many_images_as_fit():
    assert images_at_once(graph(-1), 61 * 3) == 3
    assert images_at_once(graph(-1), 61 * 3 - 1) == 2
    assert images_at_once(graph(-1), 1) == 1


@pytest.mark.parametrize(
    ("fixed", "total", "most", "sizes"),
    [(-1, 7, 3, [3, 3, 1]), (-1, 7, None, [7]), (-1, 2, 8, [2]), (2, 6, 5, [2, 2, 2]), (4, 6, 5, [5, 1])],
)
def test_parts_hold_every_image_once(fixed, total, most, sizes):
    batch = {"image": np.arange(total), "other": np.arange(total)}
    found = list(parts(graph(fixed), batch, most))
    assert [len(one["image"]) for one in found] == sizes and all(list(one) == ["image"] for one in found)
    assert np.concatenate([one["image"] for one in found]).tolist() == list(range(total))
    assert [cut.stop - cut.start for cut in cuts(graph(fixed), total, most)] == sizes
