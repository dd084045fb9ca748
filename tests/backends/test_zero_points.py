"""A network with zero points: every runtime computes the simulation's integers, and what has none refuses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.plain import NUMBERS, make_plain_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle_lite import BACKENDS as LITE
from picoquant.backends.paddle_lite.export import export
from picoquant.backends.paddle_lite.report import report
from picoquant.backends.paddle_lite.symmetric import require_symmetric
from picoquant.backends.scheme import Scheme
from picoquant.backends.source import Source
from picoquant.errors import SchemeError
from picoquant.int8.completeness import check_int8_model
from picoquant.int8.files import FILE, open_network
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.targets.integer_rules import Arithmetic, Rules
from picoquant.targets.profiles import load_target
from tests.backends.tflite.test_against_simulation import compared
from tests.networks.every_operator import quantised_with_zero_points
from tests.networks.small_net import batches


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return quantised_with_zero_points(tmp_path_factory.mktemp("zero_points"))


@pytest.fixture(scope="module")
def images():
    return next(batches(50))["image"]


def simulated(model, numbers="int8"):
    return NpuSimulation(model, Rules(Arithmetic(numbers, "half_to_even", None)))


def levels_apart(simulation, found, wanted):
    scales = [simulation.params[name].scale for name, _ in simulation.outputs]
    return [np.abs(np.rint((one - two) / scale)) for one, two, scale in zip(found, wanted, scales)]


def test_zero_points_are_where_the_values_are(model):
    """A ReLU has none below 0, an image neither; what a concat puts together shares one; all 256 integers are used."""
    network = open_network(model)
    params = {name: network.tensors[name].params for name in network.held}
    assert {params[name].zero_point for name in params if name.startswith(("relu_", "hardsigmoid"))} == {-128}
    assert params["image"].zero_point == -128
    swish = next(one for name, one in params.items() if name.startswith("hardswish"))
    assert swish.lowest == pytest.approx(-0.375, abs=swish.scale) and (swish.low, swish.high) != (-127, 127)
    for group in network.groups:
        assert len({params[name].zero_point for name in group}) == 1
    assert max(map(len, network.groups)) > 3
    assert all(one.high - one.low == 255 for one in params.values())
    assert set(network.zero_points) == set(network.held)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_plain_onnx_gives_the_simulations_integers(model, images, tmp_path, numbers):
    simulation = simulated(model, numbers)
    wanted = simulation({"image": images})
    write_onnx(make_plain_onnx(Source(model).network, numbers), tmp_path / "plain.onnx")
    predict = OnnxPredictor(tmp_path / "plain.onnx", threads=1)
    found = [
        np.concatenate(both)
        for both in zip(*[predict({"image": images[index : index + 1]}) for index in range(len(images))])
    ]
    assert not any(part.any() for part in levels_apart(simulation, found, wanted))
    assert sum(map(np.size, wanted)) == 3584 and all(np.ptp(one) > 0 for one in wanted)


def test_onnx_that_is_evaluated_and_paddle_give_the_simulations_integers(model, images, tmp_path):
    simulation = simulated(model)
    wanted = simulation({"image": images})
    write_onnx(make_onnx(Source(model).network, exact=True), tmp_path / "exact.onnx")
    predict = OnnxPredictor(tmp_path / "exact.onnx", threads=1)
    found = [np.concatenate(both) for both in zip(*[predict({"image": images[i : i + 1]}) for i in (0, 1)])]
    assert not any(part.any() for part in levels_apart(simulation, found, wanted))
    found = open_predictor(model, threads=1)({"image": images})
    assert not any(part.any() for part in levels_apart(simulation, found, wanted))


def test_the_packages_onnx_rounds_the_gate_of_a_hard_swish_too(model, images, tmp_path):
    """As of symmetric networks: one rounding more, so most values are the same and none is far."""
    simulation = simulated(model)
    wanted = simulation({"image": images[:1]})
    write_onnx(make_onnx(Source(model).network), tmp_path / "model.onnx")
    found = OnnxPredictor(tmp_path / "model.onnx", threads=1)({"image": images[:1]})
    apart = levels_apart(simulation, found, wanted)
    assert max(part.max() for part in apart) <= 2 and all(part.mean() < 0.5 for part in apart)


def test_litert_gives_the_simulations_integers(model, images):
    _, _, different, total = compared(model, images[:1])
    assert total > 30_000 and different == 0


def test_read_from_the_paddle_program_it_is_the_same_network(model, tmp_path):
    saved = open_network(model)
    assert (model.path / FILE).is_file()
    for name in ("model.pdmodel", "model.pdiparams", "infer_cfg.yml"):
        (tmp_path / name).write_bytes((model.path / name).read_bytes())
    read = open_network(
        replace(model, path=tmp_path, model=tmp_path / model.model.name, params=tmp_path / model.params.name)
    )
    for name in saved.held:
        one, other = saved.tensors[name].params, read.tensors[name].params
        assert (one.zero_point, one.narrow, one.signed) == (other.zero_point, other.narrow, other.signed), (
            name
        )
        assert one.scale == pytest.approx(other.scale, rel=1e-7), name
    for one, other in zip(saved.operators, read.operators):
        np.testing.assert_array_equal(one.integers, other.integers)
        np.testing.assert_array_equal(one.bias_integers, other.bias_integers)
    check = check_int8_model(model.model, model.params)
    assert check.holes == [] and check.int8_weights == len(saved.operators) == 8


def test_the_sums_of_any_runtime_fit_int32(model):
    """One that takes the zero point times the sum of the weights into the bias holds it, too."""
    network = open_network(model)
    for operator in network.operators:
        zero = network.tensors[operator.activation].params.zero_point
        moved = operator.bias_integers - zero * operator.integers.astype(np.int64).sum(axis=(1, 2, 3))
        reach = 255 * np.abs(operator.integers.astype(np.int64)).sum(axis=(1, 2, 3))
        assert (np.abs(moved) + reach < 2**31).all()


def test_paddle_lite_refuses_zero_points_and_says_what_holds_them(model):
    source = Source(model)
    said = "is not symmetric about 0, which files of ONNX, OpenVINO, TFLite and rknn can hold"
    rv1126 = load_target("rv1126")
    for refuse in (
        require_symmetric,
        lambda one: export(one, model.path / "x", None, rv1126),
        lambda one: report(one, None, rv1126),
    ):
        with pytest.raises(SchemeError, match=said):
            refuse(source)
    assert (
        said in LITE[0].scheme.lacks(source.network) and Scheme(zero_points=True).lacks(source.network) == ""
    )


def test_symmetric_networks_have_no_trace_of_zero_points(tmp_path):
    model = quantised_with_zero_points(tmp_path, symmetric=True)
    network = open_network(model)
    assert network.zero_points == {} and all(
        one.params.is_symmetric for one in network.tensors.values() if one.params
    )
    assert b"zero_point" not in model.model.read_bytes()
    require_symmetric(Source(model))
