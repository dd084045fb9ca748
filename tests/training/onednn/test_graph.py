"""What the engine knows of a network, and what it says of the rest."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant import build_detector
from picoquant.training.fast import FastLayers, fast_convolutions_available
from picoquant.training.graphs.tracing import any_size, program_of
from picoquant.training.onednn import graph, nodes
from picoquant.training.onednn.graph import UnsupportedError, read
from picoquant.training.onednn.library import Algorithm, Kind
from tests.training.onednn.pieces import Gated, Squeeze, ToOneChannel, Weighted, made, on_engine

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


def graph_of(layer: nn.Layer) -> graph.Graph:
    image = paddle.zeros([2, 16, 8, 8])
    program, _ = program_of(layer.forward, (image,), [any_size(image)])
    names, outputs = ([value.name for value in part.tolist()] for part in (program._inputs, program._outputs))
    return read(program._origin_main_program.global_block(), names, outputs)


def kinds(found: graph.Graph) -> Counter:
    return Counter(type(node).__name__ for node in found.nodes)


def test_biases_and_shapes_are_parts_of_their_convolutions():
    found = graph_of(made(Squeeze))
    assert kinds(found) == {"Convolution": 3, "BatchNorm": 1, "Function": 3, "Mean": 1, "Gate": 1}
    biased = [node for node in found.nodes if isinstance(node, nodes.Convolution) and node.bias]
    assert [node.shape for node in biased] == [(6, 24, 1, 1), (24, 6, 1, 1)]
    hard = [node for node in found.nodes if getattr(node, "algorithm", None) is Algorithm.HARD_SIGMOID]
    assert [(round(node.alpha, 6), node.beta) for node in hard] == [(0.166667, 0.5)]


def test_a_convolution_to_one_channel_is_a_depthwise_one_and_a_sum():
    found = graph_of(made(ToOneChannel)).nodes
    apart = next(node for node in found if isinstance(node, nodes.Convolution) and node.groups == 24)
    total = next(node for node in found if isinstance(node, nodes.Total))
    assert (apart.shape, apart.out) == ((24, 1, 5, 5), total.x)


def test_products_are_told_apart_by_their_shapes():
    assert kinds(graph_of(made(Weighted)))["Weighted"] == 1
    assert kinds(graph_of(made(Squeeze)))["Gate"] == 1
    assert kinds(graph_of(made(Gated)))["Product"] == 1


class Unknown(nn.Layer):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.convolution = nn.Conv2D(16, 16, 3, padding=2, dilation=2)
        self.plain, self.one = nn.Conv2D(16, 16, 1), nn.Conv2D(16, 1, 1)

    def forward(self, x):
        if self.what == "twice":
            return self.plain(self.plain(x))
        if self.what == "made":
            return nn.functional.conv2d(x, self.plain.weight * 2.0)
        if self.what == "tanh":
            return paddle.tanh(x)
        if self.what == "maps":
            return x * nn.functional.adaptive_avg_pool2d(self.one(x), 1)
        if self.what == "turned":
            return x.transpose([0, 2, 3, 1])
        return self.convolution(x)


@pytest.mark.parametrize("what, said", [
    ("tanh", "the operator tanh"),
    ("twice", "which several operators read"),
    ("made", "which is not computed from the images"),
    ("maps", "a product of two maps"),
    ("turned", "a transposition"),
    ("dilated", "a convolution with dilation or uneven padding"),
])  # fmt: skip
def test_what_is_not_known_is_named(what, said):
    with pytest.raises(UnsupportedError, match=said):
        on_engine(Unknown(what))


@pytest.mark.parametrize("config", [
    "picodet_s_416_coco_npu.yml",
    "picodet_xs_320_coco_lcnet.yml",
    "legacy_model/picodet_s_320_coco.yml",
    "legacy_model/more_config/picodet_mobilenetv3_large_1x_416_coco.yml",
    "legacy_model/more_config/picodet_shufflenetv2_1x_416_coco.yml",
])  # fmt: skip
def test_of_these_detectors_all_is_known(root, config, caplog):
    caplog.set_level(logging.DEBUG, "picoquant")
    model = build_detector(root / "configs" / config, 3)
    with FastLayers(model).on():
        scores, distances = model.predicted(paddle.zeros([1, 3, 64, 64]))
    assert not caplog.messages
    assert [level.shape for level in scores] == [[1, 64, 3], [1, 16, 3], [1, 4, 3], [1, 1, 3]]
    assert distances[0].shape == [1, 64, 32]


def test_another_network_is_paddles_and_in_bfloat16_that_is_said(root, caplog):
    caplog.set_level(logging.DEBUG, "picoquant")
    model, image = (
        build_detector(root / "configs/legacy_2021_08/picodet_m_mbv3_320_coco.yml", 3),
        paddle.rand([1, 3, 64, 64]),
    )
    model.eval()
    expected = model.predicted(image)[0][0].numpy()
    for precision, level in ((Kind.F32, "DEBUG"), (Kind.BF16, "WARNING")):
        with FastLayers(model, precision=precision).on():
            found = model.predicted(image)[0][0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        said = [one for one in caplog.records if "it has the operator bilinear_interp_v2" in one.message]
        assert {one.levelname for one in said} == {level}
        caplog.clear()
