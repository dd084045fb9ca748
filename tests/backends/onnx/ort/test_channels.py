"""Channels added for ONNX Runtime's integer kernels, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.graph import Graph, attribute
from picoquant.backends.onnx.ort.channels import fill_channels
from tests.backends.onnx.ort.test_layout import same
from tests.backends.onnx.test_activations import model


class Network:
    """Nodes and constants of a quantised network, from `x` on."""

    def __init__(self):
        self.random = np.random.default_rng(5)
        self.nodes, self.constants = [], {"s": np.float32(0.05), "z": np.uint8(128), "z0": np.uint8(0)}
        self.constants.update(low=np.uint8(0), high=np.uint8(127), offset=np.float32([3.0]))

    def rounded(self, name, result, zero="z"):
        self.nodes += [
            ("QuantizeLinear", [name, "s", zero], [f"{name}.q"]),
            ("Clip", [f"{name}.q", "low", "high"], [f"{name}.c"]),
            ("DequantizeLinear", [f"{name}.c" if zero == "z0" else f"{name}.q", "s", zero], [result]),
        ]

    def conv(self, source, name, out, channels, kernel=1, group=1, zero="z"):
        """A convolution and the rounding of its result, which is called `name`."""
        shape = (out, channels // group, kernel, kernel)
        scales = self.random.uniform(0.003, 0.015, out).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        scales = scales.astype(np.float32)
        self.constants |= {
            f"{name}.w": self.random.integers(-127, 128, shape).astype(np.int8), f"{name}.ws": scales,
            f"{name}.wz": np.zeros(out, np.int8), f"{name}.bs": scales * np.float32(0.05),
            f"{name}.b": self.random.integers(-3000, 3000, out).astype(np.int32),
        }  # fmt: skip
        weight, bias, made = f"{name}.weight", f"{name}.bias", f"{name}.conv"
        self.nodes += [
            ("DequantizeLinear", [f"{name}.w", f"{name}.ws", f"{name}.wz"], [weight], {"axis": 0}),
            ("DequantizeLinear", [f"{name}.b", f"{name}.bs"], [bias], {"axis": 0}),
            ("Conv", [source, weight, bias], [made], {"group": group, "pads": [kernel // 2] * 4}),
        ]  # fmt: skip
        self.rounded(made, name, zero)

    def hard_swish(self, name, channels):
        """`name` times its gate, a depthwise convolution of its own, as equalisation writes it."""
        self.conv(name, f"{name}.gate", channels, channels, group=channels, zero="z0")
        self.nodes.append(("Mul", [name, f"{name}.gate"], [f"{name}.product"]))
        self.rounded(f"{name}.product", f"{name}.swish")

    def made(self, result, shape):
        self.nodes.append(("Identity", [result], ["y"]))
        return model(self.nodes, self.constants, shape, 13)


def started(channels, outside=4):
    network = Network()
    network.rounded("x", "start")
    network.conv("start", "first", channels, outside)
    return network


def shapes(graph):
    return {name[:-2]: value.shape for name, value in graph.constants.items() if name.endswith(".w")}


@pytest.mark.parametrize(("channels", "filled"), [(11, 16), (24, 32), (88, 96)])
def test_depthwise_convolutions_between_dense_ones(channels, filled, tmp_path):
    network = started(channels)
    network.hard_swish("first", channels)
    network.conv("first.swish", "second", channels, channels, 3, channels)
    # Squeeze and excitation: a value for each channel from a mean.
    network.nodes.append(("GlobalAveragePool", ["second"], ["mean"]))
    network.rounded("mean", "mean.back")
    network.conv("mean.back", "less", 4, channels, zero="z0")
    network.conv("less", "more", channels, 4, zero="z0")
    network.nodes.append(("Mul", ["second", "more"], ["excited"]))
    network.rounded("excited", "excited.back")
    network.conv("excited.back", "last", 5, channels)
    made = network.made("last", [1, 4, 15, 15])
    x = network.random.normal(0, 4, (1, 4, 15, 15)).astype(np.float32)
    graph = same(made, lambda graph: fill_channels(graph), x, tmp_path)
    assert shapes(graph) == {
        "first": (filled, 4, 1, 1),
        "first.gate": (filled, 1, 1, 1),
        "second": (filled, 1, 3, 3),
        "less": (4, filled, 1, 1),
        "more": (filled, 4, 1, 1),
        "last": (5, filled, 1, 1),
    }
    groups = {node.name: attribute(node, "group", 1) for node in graph.nodes if node.op_type == "Conv"}
    assert groups["second.conv"] == groups["first.gate.conv"] == filled and groups["last.conv"] == 1
    assert graph.shapes["second.conv"] == [1, filled, 15, 15] and graph.shapes["last.conv"] == [1, 5, 15, 15]


def test_one_result_of_a_large_window_with_a_hard_swish(tmp_path):
    """PicoDet-XS's alignment branch: a gate of one channel is a dense convolution, too."""
    network = Network()
    network.rounded("x", "start")
    network.conv("start", "thin", 1, 4, 5)
    network.hard_swish("thin", 1)
    network.conv("thin.swish", "last", 3, 1)
    x = network.random.normal(0, 2, (1, 4, 80, 80)).astype(np.float32)  # 80 * 80 * 100 bytes to copy
    graph = same(network.made("last", list(x.shape)), lambda graph: fill_channels(graph), x, tmp_path)
    assert shapes(graph) == {"thin": (16, 4, 5, 5), "thin.gate": (16, 16, 1, 1), "last": (3, 16, 1, 1)}
    network = Network()
    network.rounded("x", "start")
    network.conv("start", "thin", 1, 4, 5)
    network.conv("thin", "last", 3, 1)
    assert fill_channels(Graph(network.made("last", [1, 4, 20, 20]))) == []  # small: the copies cost less


def concat(network):
    network.nodes.append(("Concat", ["second", "second"], ["both"], {"axis": 1}))
    network.rounded("both", "both.back")
    network.conv("both.back", "last", 5, 22)
    return "last"


def handed_out(network):
    return "second"


def shared_weight(network):
    network.conv("second", "last", 5, 11)
    network.nodes.append(("Conv", ["second", "last.weight", "last.bias"], ["other"]))
    network.nodes.append(("Add", ["last", "other"], ["sum"]))
    return "sum"


def value_a_channel(network):
    network.constants["scaled"] = np.ones((1, 11, 1, 1), np.float32)
    network.nodes.append(("Mul", ["second", "scaled"], ["times"]))
    network.rounded("times", "times.back")
    network.conv("times.back", "last", 5, 11)
    return "last"


def in_float(network):
    network.constants["float"] = np.ones((5, 11, 1, 1), np.float32)
    network.nodes.append(("Conv", ["second", "float"], ["last"]))
    return "last"


def one_for_all_channels(network):
    """A map of one channel times a map of eleven."""
    network.conv("second", "thin", 1, 11)
    network.nodes.append(("Mul", ["second", "thin"], ["weighted"]))
    network.rounded("weighted", "weighted.back")
    network.conv("weighted.back", "last", 5, 11)
    return "last"


@pytest.mark.parametrize(
    "end", [concat, handed_out, shared_weight, value_a_channel, in_float, one_for_all_channels]
)
def test_channels_that_something_else_counts_stay(end):
    network = started(11)
    network.conv("first", "second", 11, 11, 3, 11)
    graph = Graph(network.made(end(network), [1, 4, 9, 9]))
    before = shapes(graph)
    assert fill_channels(graph) == [] and shapes(graph) == before


def test_sixteen_are_enough():
    network = started(16)
    network.conv("first", "second", 16, 16, 3, 16)
    network.conv("second", "last", 5, 16)
    assert fill_channels(Graph(network.made("last", [1, 4, 9, 9]))) == []
