"""Columns seen as channels, and doubling by copies, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph, attribute
from picoquant.backends.onnx.ort.kernels import widen_thin_convolutions
from picoquant.backends.onnx.ort.layout import (
    columns_as_channels,
    double_by_copying,
    fits_columns,
    gates_in_columns,
    stem_in_columns,
)
from picoquant.backends.onnx.parity import run_onnx
from tests.backends.onnx.test_activations import model


def quantised_conv(random, out, channels, kernel, **attributes):
    """Nodes and constants from `x` to `y`, a convolution that ONNX Runtime computes in integers, so exactly."""
    scales = random.uniform(0.005, 0.02, out).astype(np.float32)
    constants = {
        "w": random.integers(-127, 128, (out, channels, *kernel)).astype(np.int8), "ws": scales,
        "b": random.integers(-999, 999, out).astype(np.int32), "bs": scales * np.float32(0.1),
        "s": np.float32(0.1), "z": np.uint8(0), "xz": np.uint8(128),
    }  # fmt: skip
    nodes = [
        ("QuantizeLinear", ["x", "s", "xz"], ["xq"]), ("DequantizeLinear", ["xq", "s", "xz"], ["xd"]),
        ("DequantizeLinear", ["w", "ws"], ["wd"], {"axis": 0}),
        ("DequantizeLinear", ["b", "bs"], ["bd"], {"axis": 0}),
        ("Conv", ["xd", "wd", "bd"], ["c"], attributes),
        ("QuantizeLinear", ["c", "s", "z"], ["cq"]), ("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]  # fmt: skip
    return nodes, constants


def same(made, edit, x, folder):
    """The edited graph, after comparing its results with those of the graph as it was, in ONNX Runtime."""
    write_onnx(made, folder / "before.onnx")
    (before,) = run_onnx(folder / "before.onnx", {"x": x})
    graph = Graph(made)
    edit(graph)
    write_onnx(graph.finish(), folder / "after.onnx")
    np.testing.assert_array_equal(run_onnx(folder / "after.onnx", {"x": x})[0], before)
    assert len(np.unique(before)) > 20
    return graph


def conv_of(graph):
    return next(node for node in graph.nodes if node.op_type == "Conv")


@pytest.mark.parametrize("columns", [2, 4, 8])
@pytest.mark.parametrize(
    "kernel, attributes",
    [
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((5, 5), {"pads": [2, 2, 2, 2]}),
        ((1, 7), {"pads": [0, 3, 0, 3]}),
        ((2, 4), {"strides": [1, 2], "pads": [0, 1, 1, 1]}),
    ],
)
def test_columns_as_channels(kernel, attributes, columns, tmp_path):
    random = np.random.default_rng(1)
    x = random.normal(0, 1, (1, 3, 10, 16)).astype(np.float32)
    made = model(*quantised_conv(random, 5, 3, kernel, **attributes), list(x.shape), 13)

    def edit(graph):
        assert fits_columns(graph, conv_of(graph), columns)
        columns_as_channels(graph, conv_of(graph), columns)

    graph = same(made, edit, x, tmp_path)
    assert graph.constants["w"].shape[1] == 3 * columns


def test_an_image_keeps_the_columns_of_a_plane_together(tmp_path):
    random = np.random.default_rng(4)
    x = random.normal(0, 1, (1, 3, 10, 16)).astype(np.float32)
    nodes, constants = quantised_conv(random, 16, 3, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    graph = same(model(nodes, constants, list(x.shape), 13), stem_in_columns, x, tmp_path)
    (perm,) = {
        tuple(attribute(node, "perm", [])) for node in graph.nodes if node.output[0].endswith("columns.last")
    }
    assert (
        perm == (0, 2, 1, 3) and constants["w"].shape == (16, 3, 3, 3) and graph.constants["w"].shape[1] == 12
    )
    place = list(
        graph.constants["w"][0, :, 1, 1]
    )  # the first of two columns takes the image's columns 0 and 1
    assert place == [n for plane in constants["w"][0, :, 1] for n in (plane[1], plane[2], 0, 0)]


@pytest.mark.parametrize("channels, width, columns", [(16, 128, 8), (48, 126, 2), (32, 92, 4)])
def test_gates_in_columns(channels, width, columns, tmp_path):
    random = np.random.default_rng(5)
    x = random.normal(0, 1, (1, channels, 100, width)).astype(np.float32)
    nodes, constants = quantised_conv(random, channels, 1, (1, 1), group=channels)
    constants["ws"] *= np.float32(0.3)
    graph = same(model(nodes, constants, list(x.shape), 13), gates_in_columns, x, tmp_path)
    assert attribute(conv_of(graph), "group", 1) == len(graph.constants["w"]) == columns * channels


def test_gates_that_stay():
    """Of few pixels, an odd width, with a stride; and what is no gate."""
    random = np.random.default_rng(6)
    for shape, kernel, attributes in (
        ([1, 16, 50, 128], (1, 1), {}),
        ([1, 16, 100, 127], (1, 1), {}),
        ([1, 80, 100, 128], (1, 1), {}),
        ([1, 16, 200, 128], (1, 1), {"strides": [2, 2]}),
        ([1, 16, 100, 128], (3, 3), {"pads": [1, 1, 1, 1]}),
    ):
        nodes, constants = quantised_conv(random, shape[1], 1, kernel, group=shape[1], **attributes)
        assert gates_in_columns(Graph(model(nodes, constants, shape, 13))) == []


def test_where_it_does_not_fit():
    random = np.random.default_rng(1)
    for attributes, width in (
        ({"strides": [2, 2], "pads": [1] * 4}, 18),  # not a multiple of 4
        ({"pads": [0] * 4}, 16),  # 14 columns of results
        ({"dilations": [2, 2], "pads": [2] * 4}, 16),
        ({"strides": [3, 3], "pads": [1] * 4}, 24),  # 4 is no multiple of 3
    ):
        parts = quantised_conv(random, 5, 3, (3, 3), **attributes)
        graph = Graph(model(*parts, [1, 3, 12, width], 13))
        assert not fits_columns(graph, conv_of(graph), 4)


def test_stem(tmp_path):
    random = np.random.default_rng(3)
    x = random.normal(0, 1, (1, 3, 16, 16)).astype(np.float32)
    made = model(*quantised_conv(random, 16, 3, (3, 3), strides=[2, 2], pads=[1] * 4), list(x.shape), 13)
    graph = same(made, lambda graph: stem_in_columns(graph) == ["c"], x, tmp_path)
    assert graph.constants["w"].shape == (32, 12, 3, 2)
    # Six columns are not taken by four: left for another way.
    graph = Graph(
        model(*quantised_conv(random, 16, 3, (3, 3), strides=[2, 2], pads=[1] * 4), [1, 3, 6, 6], 13)
    )
    assert stem_in_columns(graph) == []


def test_thin_convolution_in_pairs_of_columns(tmp_path):
    random = np.random.default_rng(4)
    nodes, constants = quantised_conv(random, 1, 96, (5, 5), pads=[2] * 4)
    constants.update(w2=np.full((3, 1, 1, 1), 90, np.int8), w2s=np.float32([0.1, 0.2, 0.3]))
    constants["w2z"] = np.zeros(3, np.int8)
    nodes[-1] = ("DequantizeLinear", ["cq", "s", "z"], ["cd"])
    nodes += [
        ("DequantizeLinear", ["w2", "w2s", "w2z"], ["w2d"], {"axis": 0}),
        ("Conv", ["cd", "w2d"], ["y"]),
    ]
    x = random.normal(0, 1, (1, 96, 42, 42)).astype(np.float32)  # 42 * 42 * 2400 bytes to copy
    made = model(nodes, constants, list(x.shape), 19)
    graph = same(made, lambda graph: widen_thin_convolutions(graph, graph.shapes) == ["c"], x, tmp_path)
    assert graph.constants["w"].shape == (16, 192, 5, 3) and graph.constants["w2"].shape == (3, 8, 1, 1)


def resize(**attributes):
    settings = {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor",
        **attributes,
    }  # fmt: skip
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["xq"]), ("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        ("Resize", ["xd", "", "scales"], ["r"], settings),
        ("QuantizeLinear", ["r", "s2", "z"], ["rq"]), ("DequantizeLinear", ["rq", "s2", "z"], ["y"]),
    ]  # fmt: skip
    constants = {"s": np.float32(0.02), "s2": np.float32(0.02), "z": np.uint8(128)}
    return nodes, {**constants, "scales": np.float32([1, 1, 2, 2])}


def test_doubling(tmp_path):
    x = np.random.default_rng(5).normal(0, 1, (1, 3, 4, 5)).astype(np.float32)
    graph = same(model(*resize(), list(x.shape)), lambda graph: double_by_copying(graph), x, tmp_path)
    assert [node.op_type for node in graph.nodes if node.op_type in ("Resize", "Concat")] == ["Concat"] * 2


def test_what_is_no_doubling_stays():
    shape = [1, 3, 4, 5]
    nodes, constants = resize()
    for made in (
        model(*resize(mode="linear"), shape),
        model(*resize(coordinate_transformation_mode="align_corners"), shape),
        model(nodes, {**constants, "scales": np.float32([1, 1, 2, 3])}, shape),
        model(nodes, {**constants, "s2": np.float32(0.03)}, shape),
    ):
        assert double_by_copying(Graph(made)) == []
