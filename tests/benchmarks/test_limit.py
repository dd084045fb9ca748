"""The bounds of a training step, by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "benchmarks")
)  # scripts find their neighbours so

import machine  # noqa: E402
from file_rates import measured_files  # noqa: E402
from limit import (  # noqa: E402
    Layer,
    Network,
    calibration_bound,
    forward_bound,
    network_of,
    training_bounds,
)
from machine import Machine  # noqa: E402
from profile_step import (  # noqa: E402
    ACTIVATIONS,
    DENSE,
    DEPTHWISE,
    NORMS,
    REST,
    WEIGHTS,
    WEIGHTS_DEPTHWISE,
    bounds,
    group_of,
)

# 1e9 multiply-accumulates a second; 4 GB/s up to two arrays of 1,000 bytes, 2 GB/s beyond.
MACHINE = Machine(2, {"fp32": 1e9}, ((1000, 4e9), (10**9, 2e9)), 1e6)
FIRST = Layer(inputs=10, outputs=40, weights=50, macs=2000)  # 2 us of arithmetic for one image
SECOND = Layer(inputs=400, outputs=100, weights=0, macs=10, depthwise=True)  # 2,000 bytes: 0.5 us
NETWORK = Network((FIRST, SECOND), norms=(100,))


def test_arithmetic_bounds_one_layer_and_memory_the_other():
    assert forward_bound(MACHINE, NETWORK, "fp32", 1) == pytest.approx(2.5e-6)


def test_a_training_step_has_no_gradient_of_the_image():
    fused, operators = training_bounds(MACHINE, NETWORK, "fp32", 1)
    assert fused == pytest.approx(2 * 2e-6 + 3 * 0.5e-6)
    # 400 bytes: 3 passes over 800 bytes in all and 5 over 1,200, all of the fast memory.
    assert operators - fused == pytest.approx(8 * 400 / 4e9)


def test_larger_tensors_are_of_slower_memory():
    fused, operators = training_bounds(MACHINE, NETWORK, "fp32", 2)
    assert fused == pytest.approx(2 * 4e-6 + 3 * 4000 / 2e9)
    # 800 bytes: the forward's two tensors are within 2,000 bytes, the backward's three are not.
    assert operators - fused == pytest.approx(3 * 800 / 4e9 + 5 * 800 / 2e9)


def test_calibration_is_two_passes_of_each_image_and_three_of_some():
    # An image alone takes 2.5 us, see above; more of them at once no less.
    assert calibration_bound(MACHINE, NETWORK, 8) == pytest.approx(2.5e-6 * (2 * 8 + 3 * 8))
    assert calibration_bound(MACHINE, NETWORK, 64) == pytest.approx(2.5e-6 * (2 * 64 + 3 * 32))


def test_rates_of_files(monkeypatch):
    monkeypatch.setattr(machine, "_SECONDS", 0.01)
    found = measured_files(2)
    assert found.threads == 2 and found.parser in ("json", "orjson", "ujson", "msgspec.json")
    assert 1e7 < found.json < 1e10 and 1e3 < found.opened < 1e7
    assert found.written > 1e7 and found.read > 1e7


def test_the_parts_of_a_picture_are_the_bounds():
    parts = bounds(MACHINE, NETWORK, 1)
    assert [sum(bar.values()) for bar in parts.values()] == pytest.approx(
        training_bounds(MACHINE, NETWORK, "fp32", 1)
    )
    assert parts["fused"][DENSE] == parts["fused"][WEIGHTS] == pytest.approx(2e-6)
    assert parts["fused"][DEPTHWISE] == pytest.approx(1e-6) and parts["operators"][NORMS] > 0


def test_a_real_network():
    network = network_of("picodet_s_416_coco_npu.yml", 96)
    assert network.layers[0].inputs == 3 * 96 * 96 and not network.layers[0].depthwise
    assert sum(layer.depthwise for layer in network.layers) > 30
    assert len(network.norms) == 106 and network.norms[0] == network.layers[0].outputs


@pytest.mark.parametrize(
    ("kind", "direction", "problem", "group"),
    [
        ("convolution", "forward_inference", "g96mb2_ic96oc96_ih52oh52kh5sh1", DEPTHWISE),
        ("convolution", "backward_weights", "g96mb2_ic96oc96_ih52oh52kh5sh1", WEIGHTS_DEPTHWISE),
        ("convolution", "backward_weights", "mb2_ic96oc96_ih52oh52kh1sh1", WEIGHTS),
        ("convolution", "forward_inference", "g2mb2_ic96oc96_ih52oh52kh1", DENSE),
        ("gemm_api", "undef", "", WEIGHTS),
        ("eltwise", "backward_data", "2x96x52x52", ACTIVATIONS),
        ("sum", "undef", "2x96x52x52", REST),
    ],
)
def test_kernels_and_their_groups(kind, direction, problem, group):
    assert group_of(kind, direction, problem) == group
