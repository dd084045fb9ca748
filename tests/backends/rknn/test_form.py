"""The ONNX that an `.rknn` is built from: the same network, in numbers that rknn-toolkit2 takes as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from picoquant.backends.onnx.plain import make_plain_onnx
from picoquant.backends.rknn.form import OUTPUTS, PLATFORM, SHA256, as_paddle_has_them, make_form, properties
from picoquant.backends.rknn.platforms import DEFAULT, PLATFORMS, platform_of
from picoquant.backends.source import Source
from picoquant.errors import ToolError, WeightsError
from picoquant.int8.files import open_network
from picoquant.targets.profiles import load_target
from tests.networks.every_operator import quantised_with_zero_points
from tests.networks.quick_int8 import exported, quick_int8


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made = quick_int8(exported("picodet_s_416_coco_npu.yml", folder / "fp32", size=32), folder / "int8")
    return open_network(made).for_one_image((32, 32), "whole")


@pytest.fixture(scope="module")
def form(network):
    return make_form(network, "rk3566")


def constants(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def as_the_toolkit_reads_it(model):
    """The model with the scales that rknn-toolkit2 2.5.0 makes of it: what has zero point 0 everywhere is symmetric,
    and its range of -128 to 127 is covered by 127 steps on each side."""
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    values = constants(changed)
    names = {}
    for node in changed.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            stored = values.get(node.input[0])
            bias = stored is not None and stored.dtype == np.int32
            names[node.input[1]] = 1.0 if bias or values[node.input[2]].any() else 128 / 127
    for item in changed.graph.initializer:
        if item.name in names:
            value = (values[item.name].astype(np.float64) * names[item.name]).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(value, item.name))
    return changed


def run(model, image):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"image": image})


def test_with_the_toolkits_scales_it_is_the_plain_model_value_by_value(network, form):
    """That is how the simulator computes it, measured in docs/rknn.md; read as ONNX it is another network."""
    image = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    plain = run(make_plain_onnx(network, "int8"), image)
    outputs, platform, _ = properties(with_hash(form), "model.onnx")
    assert platform == "rk3566" and [list(shape) for _, shape in outputs] == [
        list(one.shape) for one in plain
    ]
    found = as_paddle_has_them(run(as_the_toolkit_reads_it(form), image), outputs)
    differ = total = 0
    for one, two in zip(plain, found):
        assert one.shape == two.shape
        step = np.abs(one[one != 0]).min() if one.any() else 1.0
        differ += int((np.abs(one - two) > 0.5 * step).sum())
        total += one.size
    assert differ <= total // 200  # float32 rounds a product's half the other way here and there
    unread = as_paddle_has_them(run(form, image), outputs)
    assert any(np.abs(one - two).max() > 0 for one, two in zip(plain, unread))


def with_hash(form):
    made = onnx.ModelProto.FromString(form.SerializeToString())
    made.metadata_props.add(key=SHA256, value="0" * 64)
    return made


def test_every_constant_has_a_zero_point_and_weights_another_than_0(network, form):
    values = constants(form)
    integers = {operator.weight: operator.integers for operator in network.operators}
    weights = 0
    for node in form.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in values:
            continue
        stored, scale, zero = (values[name] for name in node.input)
        assert zero.shape == scale.shape and zero.dtype == stored.dtype
        if stored.dtype == np.int32:
            assert not zero.any()
            continue
        assert (zero == -1).all()
        weights += any(
            one.size == stored.size and np.array_equal(one.ravel(), stored.ravel().astype(int) + 1)
            for one in integers.values()
        )
    assert weights == sum(node.op_type == "Conv" for node in form.graph.node) > 80


def test_scales_of_tensors_are_smaller_by_one_128th(network, form):
    values, plain = constants(form), constants(make_plain_onnx(network, "int8"))
    scales = {
        node.input[1]
        for node in form.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in values
    }
    assert len(scales) > 100
    for name in scales:
        assert values[name] == pytest.approx(plain[name] * 127 / 128, rel=1e-7)


def test_outputs_are_the_maps_behind_which_only_values_move(form):
    shapes = [[side.dim_value for side in one.type.tensor_type.shape.dim] for one in form.graph.output]
    assert all(len(shape) == 4 for shape in shapes) and shapes[0][2:] == [4, 4]
    assert not {"Reshape", "Transpose"} & {node.op_type for node in form.graph.node}
    value = np.arange(24.0).reshape(1, 2, 3, 4)
    (rows,) = as_paddle_has_them([value], (("a", (-1, 12, 2)),))
    assert rows.shape == (1, 12, 2) and rows[0, 5].tolist() == [5.0, 17.0]
    assert as_paddle_has_them([value], (("a", (-1, 2, 3, 4)),))[0] is value


def test_a_weight_that_cannot_be_shifted_is_refused(network):
    first = network.operators[0]
    integers = first.integers.copy()
    integers.ravel()[:2] = -128, 127
    changed = replace(network, operators=(replace(first, integers=integers), *network.operators[1:]))
    with pytest.raises(ToolError, match=r"has integers from -128 to 127, which rknn-toolkit2 rounds again"):
        make_form(changed, DEFAULT)
    lower = replace(first, integers=np.minimum(integers, 126))
    made = constants(make_form(replace(changed, operators=(lower, *network.operators[1:])), DEFAULT))
    assert sum((value == 1).all() for name, value in made.items() if name.endswith(".levels.zero")) == 1


def test_an_onnx_of_another_origin_is_refused(form):
    with pytest.raises(
        WeightsError, match=r"a\.onnx is not the ONNX that an \.rknn was built from: export it again"
    ):
        properties(form, "a.onnx")  # without the hash of a file
    assert {item.key for item in form.metadata_props} == {OUTPUTS, PLATFORM}


def test_platforms_are_those_of_the_profiles():
    assert platform_of(None) == DEFAULT and DEFAULT in PLATFORMS
    with pytest.raises(
        ToolError, match=r"builds nothing for RV1126: `soc` in the profile of rv1126 must be one of rk35"
    ):
        platform_of(load_target("rv1126"))


def test_zero_points_of_tensors_stay_with_their_scales(tmp_path):
    """What the toolkit takes as it is (docs/rknn.md): nothing is shrunk, nothing is shifted but weights."""
    network = Source(quantised_with_zero_points(tmp_path)).network
    form, plain = constants(make_form(network, DEFAULT)), constants(make_plain_onnx(network, "int8"))
    own = [
        name for name in network.zero_points if f"{name}.zero" in form
    ]  # not those behind the last convolutions
    assert len(own) > 10
    for name in own:
        assert form[f"{name}.zero"] == plain[f"{name}.zero"] == network.zero_points[name] != 0
        assert form[f"{name}.scale"] == plain[f"{name}.scale"]
