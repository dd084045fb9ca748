"""What esp-ppq is given of an INT8 network: float ONNX, and a power of two for each tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from picoquant.backends.esp_ppq.chips import CHIPS, DEFAULT, chip_of
from picoquant.backends.esp_ppq.form import CHIP, EXPONENTS, SHA256, exponent_of, make_form, properties
from picoquant.errors import ToolError, WeightsError
from picoquant.int8.files import open_network
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made = quick_int8(exported("picodet_s_416_coco_npu.yml", folder / "fp32", size=32), folder / "int8")
    return open_network(made).for_one_image((32, 32), "whole")


@pytest.fixture(scope="module")
def form(network):
    return make_form(network, "esp32p4")


@pytest.mark.parametrize(
    ("value", "exponent"),
    [
        (127.0, 0),  # a scale of 1
        (127 * 2.0**-6, -6),
        (127 * 1.41, 0),  # nearer to 1 than to 2, as a factor
        (127 * 1.42, 1),
        (6.0, -4),  # 0.0472 is nearer to 1/16 than to 1/32
        (1e-6, -27),
    ],
)
def test_the_nearest_power_of_two(value, exponent):
    assert exponent_of(value) == exponent


def with_hash(form):
    made = onnx.ModelProto.FromString(form.SerializeToString())
    made.metadata_props.add(key=SHA256, value="0" * 64)
    return made


def test_every_tensor_has_its_exponent(network, form):
    exponents, chip, digest = properties(with_hash(form), "m.onnx")
    made = {name for node in form.graph.node for name in node.output} | {"image"}
    assert chip == "esp32p4" and digest == "0" * 64
    assert set(exponents) == made & set(network.ranges) and len(exponents) > 100
    for name, exponent in exponents.items():
        assert 2**-0.5 <= network.ranges[name] / 127 / 2.0**exponent <= 2**0.5


def test_weights_are_those_before_int8_where_they_are_known(network, form):
    first = network.operators[0]
    constants = {item.name: numpy_helper.to_array(item) for item in form.graph.initializer}
    np.testing.assert_array_equal(constants[first.weight].ravel(), first.value.ravel())
    before = {first.weight: first.value + np.float32(0.001)}
    other = make_form(replace(network, float_params=before), "esp32p4")
    constants = {item.name: numpy_helper.to_array(item) for item in other.graph.initializer}
    np.testing.assert_array_equal(constants[first.weight].ravel(), before[first.weight].ravel())


def test_an_onnx_of_another_origin_is_refused(form):
    said = r"a\.onnx is not the ONNX that an \.espdl was built from: export it again"
    with pytest.raises(WeightsError, match=said):
        properties(form, "a.onnx")  # without the hash of a file
    assert {item.key for item in form.metadata_props} == {EXPONENTS, CHIP}
    strange = with_hash(form)
    onnx.helper.set_model_props(strange, {EXPONENTS: "[1]", CHIP: "esp32p4", SHA256: ""})
    with pytest.raises(WeightsError, match=said):
        properties(strange, "a.onnx")


def test_chips_are_those_of_the_profiles():
    assert chip_of(None) == DEFAULT == chip_of(load_target("esp32p4")) and DEFAULT in CHIPS
    with pytest.raises(
        ToolError,
        match=r"no \.espdl is made for RV1126: `soc` in the profile of rv1126 must be one of esp32p4, esp32s3",
    ):
        chip_of(load_target("rv1126"))
