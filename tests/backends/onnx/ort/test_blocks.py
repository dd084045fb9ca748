"""Convolutions to one channel on blocks of results, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.batch import with_batch
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph, attribute
from picoquant.backends.onnx.ort.blocks import blocks_as_channels
from picoquant.backends.onnx.parity import run_onnx
from picoquant.utils.batching import DYNAMIC
from tests.backends.onnx.ort.test_layout import conv_of, quantised_conv, same
from tests.backends.onnx.test_activations import model


def branch(random, channels, height, width, kernel=5, swish=False, end="cells"):
    """PicoDet's alignment: a large convolution to one channel, an activation, a 1x1 convolution, the cells in a row."""
    half = kernel // 2
    nodes, constants = quantised_conv(random, 1, channels, (kernel, kernel), pads=[half] * 4)
    nodes.pop()
    step = np.float32([4 / (300 * kernel * channels**0.5)])  # results of some 4, of at most 12.7
    constants |= {
        "ws": step, "bs": step / 10,
        "w2": np.int8([[[[-93]]]]), "ws2": np.float32([0.01]), "b2": np.int32([2345]), "bs2": np.float32([0.001]),
        "s2": np.float32(0.11), "z2": np.uint8(101), "zg": np.uint8(98), "sg": np.float32(0.1 / 6),
        "low": np.uint8(98), "high": np.uint8(158), "z": np.uint8(128), "shape": np.array([1, height * width, 1]),
    }  # fmt: skip
    nodes.append(("DequantizeLinear", ["cq", "s", "z"], ["cd"]))
    if swish:  # gates of bytes, as ort/gates.py writes them
        nodes += [
            ("Clip", ["cq", "low", "high"], ["gq"]), ("DequantizeLinear", ["gq", "sg", "zg"], ["gd"]),
            ("Mul", ["cd", "gd"], ["h"]),
            ("QuantizeLinear", ["h", "s", "zg"], ["hq"]), ("DequantizeLinear", ["hq", "s", "zg"], ["hd"]),
        ]  # fmt: skip
    nodes += [
        ("DequantizeLinear", ["w2", "ws2"], ["wd2"], {"axis": 0}),
        ("DequantizeLinear", ["b2", "bs2"], ["bd2"], {"axis": 0}),
        ("Conv", ["hd" if swish else "cd", "wd2", "bd2"], ["e"]),
        ("QuantizeLinear", ["e", "s2", "z2"], ["eq"]),
        ("DequantizeLinear", ["eq", "s2", "z2"], ["y" if end == "result" else "ed"]),
    ]
    if end == "cells":
        nodes += [("Transpose", ["ed"], ["t"], {"perm": [0, 2, 3, 1]}), ("Reshape", ["t", "shape"], ["y"])]
    if end == "twice":
        nodes.append(("Concat", ["ed", "ed"], ["y"], {"axis": 1}))
    return model(nodes, constants, [1, channels, height, width], 13)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize(
    "height, width, block",
    [(52, 52, (4, 4)), (26, 26, (2, 2)), (8, 20, (4, 4)), (9, 15, (3, 3)), (6, 20, (3, 4)), (19, 16, (1, 4))],
)
def test_blocks(height, width, block, fill, tmp_path):
    random = np.random.default_rng(height)
    channels = 96 if height * width < 800 else 16
    x = random.normal(0, 4, (1, channels, height, width)).astype(np.float32)
    made = branch(random, channels, height, width)
    graph = same(made, lambda graph: blocks_as_channels(graph, fill), x, tmp_path)
    conv, count = conv_of(graph), block[0] * block[1]
    assert graph.constants["w"].shape == (16 if fill else count, channels, 4 + block[0], 4 + block[1])
    assert tuple(attribute(conv, "strides", [])) == block and attribute(conv, "pads", []) == [2, 2, 2, 2]
    assert graph.constants["w2"].shape == (count, 16 if fill else count, 1, 1)
    assert graph.shapes["e"] == [1, count, height // block[0], width // block[1]]
    kinds = [node.op_type for node in graph.nodes]
    assert kinds.count("Transpose") == 2 and kinds.count("Reshape") == 2  # the cells' own Transpose is gone


@pytest.mark.parametrize(
    "kernel, end, cells", [(5, "cells", [6, 6]), (3, "twice", [12, 12]), (7, "cells", [6, 6])]
)
def test_hard_swishes_between(kernel, end, cells, tmp_path):
    random = np.random.default_rng(2)
    x = random.normal(0, 4, (1, 64, 24, 24)).astype(np.float32)
    made = branch(random, 64, 24, 24, kernel, swish=True, end=end)
    graph = same(made, lambda graph: blocks_as_channels(graph, True), x, tmp_path)
    assert graph.constants["w"].shape[0] == 16 and graph.shapes["h"] == [1, 16, *cells]


def test_where_it_stays():
    """Results of the network, small ones, sizes with no blocks, other windows, two places that take it."""
    random = np.random.default_rng(3)
    assert blocks_as_channels(Graph(branch(random, 96, 12, 12, end="result"))) == []
    assert blocks_as_channels(Graph(branch(random, 8, 8, 8))) == []
    assert blocks_as_channels(Graph(branch(random, 96, 17, 19))) == []
    graph = Graph(branch(random, 96, 12, 12))
    conv = conv_of(graph)
    next(item for item in conv.attribute if item.name == "pads").ints[0] = 1
    assert blocks_as_channels(graph) == []
    graph = Graph(branch(random, 96, 12, 12))
    graph.nodes[-1].input[0], graph.nodes[-2].output[0] = "cd", "unused"
    assert blocks_as_channels(graph) == []


@pytest.mark.parametrize("batch", [3, DYNAMIC])
def test_several_images(batch, tmp_path):
    random = np.random.default_rng(4)
    x = random.normal(0, 4, (3, 96, 12, 12)).astype(np.float32)
    graph = Graph(branch(random, 96, 12, 12))
    assert len(blocks_as_channels(graph, True)) == 1
    made = graph.finish()
    for size in (1, 144, 1):
        made.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    write_onnx(made, tmp_path / "single.onnx")
    write_onnx(with_batch(made, batch), tmp_path / "batch.onnx")
    alone = [run_onnx(tmp_path / "single.onnx", {"x": one[None]})[0] for one in x]
    np.testing.assert_array_equal(run_onnx(tmp_path / "batch.onnx", {"x": x})[0], np.concatenate(alone))
