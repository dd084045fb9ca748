"""Rules that no export of ours breaks, on hand-made splits; cost by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from picoquant.backends.placement import BORDER, CPU, NPU, PartitionedGraph, PlacedOperator
from picoquant.npu.cost import estimate
from picoquant.npu.lint import lint
from picoquant.npu.partition import partition_text
from picoquant.paddle_program.graph import Tensor
from picoquant.targets.profiles import load_target

SCALES = {"X0_scale": (0.1,), "Out0_scale": (0.1,)}


def op(kind, x, out, place=NPU, piece=0, **attributes):
    name, inputs, outputs = out, (("X0", x),), (("Out0", out),)
    return PlacedOperator(name, kind, inputs, outputs, {**SCALES, **attributes}, place, piece)


def network(*operators, **shapes):
    """A split with feed and fetch around the operators; every tensor is [1, 8] unless told."""
    first, last = operators[0].inputs[0][1], operators[-1].outputs[0][1]
    ends = op("feed", "feed", first, BORDER, -1), op("fetch", last, "fetch", BORDER, -1)
    names = {name for one in operators for _, name in (*one.inputs, *one.outputs)}
    tensors = {name: Tensor(name, shapes.get(name, (1, 8)), "float32", False) for name in names}
    return PartitionedGraph((ends[0], *operators, ends[1]), tensors, (first,), (last,))


def found(split, target="rv1126"):
    return {(finding.rule, finding.operator) for finding in lint(split, load_target(target))}


def test_nothing_to_say():
    assert found(network(op("relu6", "a", "b", threshold=6.0), op("sigmoid", "b", "c"))) == set()


@pytest.mark.parametrize("shape", [(), (8,)])
def test_small_ranks_at_the_border(shape):
    split = network(op("relu6", "a", "b"), op("sigmoid", "b", "c"), b=shape, c=shape)
    assert found(split) == {("border_rank", "c")}  # b stays inside


def test_attributes_and_shapes():
    split = network(
        op("relu6", "a", "b", threshold=4.0),
        op("pool2d", "b", "c", data_format="NHWC"),
        op("pool2d", "c", "d", adaptive=1, ksize=(2, 2)),
        op("sigmoid", "d", "e"),
        d=(1, -1),
    )
    assert found(split) == {
        ("attributes", "b"), ("attributes", "c"), ("attributes", "d"), ("shapes", "d"),
    }  # fmt: skip


def test_scales_that_are_missing_or_no_numbers():
    missing = op("sigmoid", "a", "b")
    missing = replace(missing, attributes={"X0_scale": (0.1,)})
    split = network(missing, op("relu", "b", "c", Out0_scale=(math.nan,)))
    assert found(split) == {("scales", "b"), ("scales", "c")}
    (finding, *_) = lint(split, load_target("rv1126"))
    assert finding.message == "sigmoid has no quantisation scale for Out0" and "tensor b" in finding.mend


def test_a_network_of_which_nothing_is_on_the_npu():
    assert ("one_piece", "") in found(network(op("sqrt", "a", "b", CPU, -1)))


def test_the_partition_gives_up_what_has_little_to_do():
    def conv(x, out, piece):
        return replace(op("conv2d", x, out, NPU, piece), inputs=(("Input0", x), ("Filter0", f"{out}.w")))

    split = network(
        conv("a", "b", 0), op("sqrt", "b", "c", CPU, -1), op("relu", "c", "d", NPU, 1),
        op("sqrt", "d", "e", CPU, -1), conv("e", "f", 2),
    )  # fmt: skip
    weights = {f"{name}.w": Tensor(f"{name}.w", (8, 8, 3, 3), "int8", True) for name in "bf"}
    split = replace(split, tensors={**split.tensors, **weights})
    # Both convolutions are half of the work each: only relu between two sqrt is not worth a piece.
    assert partition_text(split) == "relu::d\n"


def test_latency_by_hand():
    target = load_target("rv1126")
    # 122.3 ms / 12.329 M = 9.92 and 200.2 / 25.796 = 7.76: mean 8.77; each from the other: 28 % off at most.
    result = estimate(target.latency_ms, "per_channel", 2.0)
    assert result.milliseconds == pytest.approx(2 * math.sqrt(9.9197 * 7.7609), rel=1e-4)
    assert result.error == pytest.approx(9.9197 / 7.7609 - 1, rel=1e-3)
    assert "estimated, not measured" in result.method
    without = estimate(load_target("imx8mp").latency_ms, "per_channel", 2.0)
    assert (without.milliseconds, without.error) == (None, None)
    assert "no NPU time of a model with per-channel weights is published" in without.method
    # 3.2 / 5.044, 5.5 / 6.679 and 12.7 / 11.115 ms a million: mean 0.842; MobileNetV1 from the other two 53 % off.
    assert "abs_max) 1.68 ms is estimated, off by up to 53%" in without.method
    assert estimate({}, "per_channel", 2.0).method.endswith("published for this target")
    assert estimate(load_target("imx8mp").latency_ms, "per_tensor", 5.044).error < 1


def test_convolutions_on_shaders_are_named():
    """A scale for each channel is legal on the A311D and slow there; what keeps it on the cores is said."""
    weight = Tensor("w", (2, 8, 1, 1), "int8", True)
    one = replace(
        op("conv2d", "a", "b", Input0_scale=(0.1,), Filter0_scale=(0.1, 0.2)),
        inputs=(("Input0", "a"), ("Filter0", "w")),
    )
    split = replace(network(one), tensors={**network(one).tensors, "w": weight})
    (finding,) = lint(split, load_target("a311d"))
    assert (finding.rule, finding.operator, finding.broken) == ("shader", "b", False)
    assert "A311D computes on shaders, not on its NN cores" in finding.message
    assert finding.mend == "set QuantAware.weight_quantize_type=abs_max, and quantise again"
    same = replace(one, attributes={**one.attributes, "Filter0_scale": (0.1, 0.1)})
    assert found(replace(split, operators=(split.operators[0], same, split.operators[2])), "a311d") == set()
    assert found(split, "rv1126") == set()  # nobody has measured what runs it there


def test_a_hard_sigmoid_behind_a_scale_for_each_channel_is_named():
    """VeriSilicon's driver computes it wrong unless it is told to keep INT8; with one scale nothing is said."""
    target = replace(load_target("imx8mp"), environment={})
    weight = Tensor("w", (2, 8, 1, 1), "int8", True)
    one = replace(
        op("conv2d", "a", "b", Input0_scale=(0.1,), Filter0_scale=(0.1, 0.2)),
        inputs=(("Input0", "a"), ("Filter0", "w")),
    )
    split = network(one, op("hard_sigmoid", "b", "c"))
    split = replace(split, tensors={**split.tensors, "w": weight})
    (finding,) = [finding for finding in lint(split, target) if finding.rule == "tables"]
    assert (finding.operator, finding.broken) == ("c", False) and "every negative value" in finding.message
    assert 'VSI_NN_ENABLE_I8TOU8: "0"' in finding.mend
    assert "tables" not in found(split, "imx8mp")  # whose profile sets it
    same = replace(one, attributes={**one.attributes, "Filter0_scale": (0.1, 0.1)})
    assert (
        found(replace(split, operators=(split.operators[0], same, *split.operators[2:])), "imx8mp") == set()
    )
    (channels,) = [finding for finding in lint(split, load_target("imx8mp")) if finding.rule == "granularity"]
    assert (channels.operator, channels.broken) == ("b", False)  # the chip takes it
    assert found(split, "rv1126") == set()
