"""Cycles out of what the driver prints, and which layer of the network they are given to."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.verisilicon.description import FORMS, Description
from picoquant.backends.verisilicon.report import LayerCost, layer_costs, totals
from picoquant.errors import ToolError


def printed(layer, number, unit, size, cycles, moved=(100, 50), kernel=None):
    """An operation as the driver prints it, without what is not read."""
    sizes = "".join(f"Kernel{axis}: {value}\n" for axis, value in zip("XYZ", kernel or ()))
    width, height, channels = size
    return (
        f"**********Show Perf********\nlayer_id:{number} layer_name:{layer}\n"
        f"operation_id:0 operation_name:X operation_target:VXNNE_OPERATION_TARGET_{unit}\n"
        f"OutImageX: {width} (sub: {width})\nOutImageY: {height}\nOutImageZ: {channels}\n"
        f"{sizes}ReadBW: {moved[0]}\nWriteBW: {moved[1]}\nCycleCount: {cycles}\n"
    )


@pytest.fixture
def network():
    """Two convolutions with a ReLU6 each, a sigmoid, and a transposition."""
    made = Description(FORMS["uint8_per_tensor"])
    source = made.input("image", (3, 8, 8), 1.0)
    first, second = made.between((4, 8, 8), 1.0), made.between((4, 4, 4), 1.0)
    made.node("conv", [], [source], [first], "a")
    made.node("relu6", [], [first], [first], "a")
    made.node("conv", [], [first], [second], "b")
    made.node("relu6", [], [second], [second], "b")
    made.node("sigmoid", [], [second], [second], "c")
    made.node("permute", [], [second], [made.output("d", (16, 4), 1.0)], "d")
    return made


def test_each_layer_has_its_operations(network):
    said = "the driver's own words\n" + "".join(
        [
            printed("ConvolutionReluPoolingLayer2", 7, "SH", (5, 5, 12), 30),
            printed("ConvolutionReluPoolingLayer2", 7, "NN", (8, 8, 4), 200),
            printed("ActivationLayer", 1, "TP", (8, 8, 4), 40),
            # In two parts, and before the first of its kind in the network.
            printed("ConvolutionReluPoolingLayer2", 9, "NN", (4, 2, 4), 60),
            printed("ConvolutionReluPoolingLayer2", 9, "NN", (4, 2, 4), 61),
            printed("ActivationLayer", 2, "TP", (4, 4, 4), 10),
            printed("ActivationLayer", 3, "TP", (4, 4, 4), 11),
            printed("TensorTranspose", 4, "TP", (16, 4, 1), 12),
            printed("SomethingNew", 5, "SH", (4, 4, 4), 5),
        ]
    )
    costs = layer_costs(said, network)
    assert costs == [
        LayerCost("a", {"SH": 30, "NN": 200, "TP": 40}, 300, 150),
        LayerCost("b", {"NN": 121, "TP": 10}, 300, 150),
        LayerCost("c", {"TP": 11}, 100, 50),
        LayerCost("d", {"TP": 12}, 100, 50),
        LayerCost("", {"SH": 5}, 100, 50),
    ]
    assert totals(costs) == {"NN": 321, "TP": 73, "SH": 35}


def test_a_convolution_is_found_by_its_kernel():
    made = Description(FORMS["uint8_per_tensor"])
    source, result = made.between((4, 8, 8), 1.0), made.between((4, 8, 8), 1.0)
    for name, kind, size in (("a", "conv", 1), ("b", "depthwise", 5), ("c", "conv", 1)):
        made.node(kind, [size, size], [source], [result], name)
    said = "".join(
        printed("ConvolutionReluPoolingLayer2", number, "NN", (8, 8, 4), cycles, kernel=(size, size, 4))
        for number, (size, cycles) in enumerate([(5, 50), (1, 10), (1, 11)])
    )
    assert [(cost.name, cost.total) for cost in layer_costs(said, made)] == [("a", 10), ("b", 50), ("c", 11)]


def test_no_cycles_is_an_error(network):
    with pytest.raises(ToolError, match="printed no cycles that picoquant understands"):
        layer_costs("Show Perf of another form\n", network)


def test_values_are_stored_with_their_zero_points():
    made = Description(FORMS["uint8_per_tensor"])
    made.input("a", (1, 2), 1.0)
    made.input("b", (2,), 1.0, 0)
    made.output("c", (1, 2), 1.0, 3)
    stored = made.stored({"b": np.array([0, 255]), "a": np.array([[[-128, 127]]])})
    assert stored == bytes([0, 255, 0, 255])
    assert made.read(bytes([0, 255]))["c"].tolist() == [[-3, 252]] and made.result_bytes == 2
