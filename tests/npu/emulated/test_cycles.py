"""Cycles as table, JSON, advice and colours of the picture."""

from __future__ import annotations

import json

from picoquant.backends.placement import NPU, PartitionedGraph, PlacedOperator
from picoquant.backends.verisilicon.report import LayerCost
from picoquant.npu.emulated.cycles import Cycles, measure_cycles
from picoquant.npu.picture import draw
from picoquant.paddle_program.graph import Tensor
from tests.backends.verisilicon.test_report import printed

LAYERS = (
    LayerCost("a", {"NN": 600, "SH": 100}, 10, 5),
    LayerCost("b", {"TP": 200}, 20, 6),
    LayerCost("c", {"SH": 90}, 30, 7),
    LayerCost("", {"SH": 10}, 40, 8),
)
KINDS = {"a": "conv2d", "b": "transpose2", "c": "pool2d"}


def test_summary_table_and_json():
    cycles = Cycles("VIPX, emulator 6.57.1", LAYERS, KINDS, per_channel=False)
    assert cycles.total == 1000
    assert cycles.summary().startswith(
        "0.00 M an image (NN cores 0.00 M, TP (tensor processing) 0.00 M, shaders"
    )
    rows = cycles.to_text().splitlines()
    assert rows[2].split() == ["a", "conv2d", "600", "0", "100", "70.0%", "10", "5"]
    assert rows[-1].split()[:3] == ["(of", "no", "layer)"] and len(rows) == 6
    values = cycles.to_json()
    assert values["units"] == {"NN": 600, "TP": 200, "SH": 200} and values["total"] == 1000
    assert values["layers"][1] == {
        "layer": "b", "type": "transpose2", "NN": 0, "TP": 200, "SH": 0, "read": 20, "written": 6, "share": 0.2
    }  # fmt: skip
    again = Cycles.from_json(json.loads(json.dumps(values)))
    assert again.to_json() == values and list(again.layers) == list(LAYERS)


def test_cycles_are_known_without_an_image(simulation, tool):
    """The stand-in has no results, so it would end on one."""
    (tool.path / "perf").write_text(printed("TensorMul", 3, "SH", (2, 2, 4), 70))
    cycles = measure_cycles(simulation, tool, "VIPX")
    assert (cycles.total, cycles.chip, cycles.per_channel) == (70, "VIPX, emulator 6.57.1", False)
    assert (tool.path / "started").read_text() == "x"


def test_each_layer_on_shaders_is_named_with_what_keeps_it_off():
    found = list(Cycles("VIPX", LAYERS, KINDS, per_channel=False).findings())
    assert [(one.rule, one.operator, one.broken) for one in found] == [
        ("shader", "a", False), ("shader", "c", False), ("shader", "(of no layer)", False)
    ]  # fmt: skip
    assert "the cores' order of values" in found[0].mend and "pool2d of this size" in found[1].mend
    per_channel = list(Cycles("VIPX", LAYERS, KINDS, per_channel=True).findings())
    assert per_channel[0].mend == "set QuantAware.weight_quantize_type=abs_max"


def test_the_picture_has_the_colours_of_units_and_shares():
    operators = tuple(
        PlacedOperator(name, kind, (("X", source),), (("Out", name),), {}, place=NPU, subgraph=0)
        for kind, source, name in (("conv2d", "image", "a"), ("pool2d", "a", "c"))
    )
    tensors = {name: Tensor(name, (1, 2), "int8", False) for name in ("image", "a", "c")}
    graph = PartitionedGraph(operators, tensors, ("image",), ("c",))
    picture = draw(graph, "t", {"a": {"NN": 600, "SH": 100}, "c": {"SH": 300}})
    assert "mostly NN" in picture and "600 cycles NN" in picture
    assert "NPU" in draw(graph, "t") and "cycles" not in draw(graph, "t")
