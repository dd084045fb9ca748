"""Biases that are whole numbers of steps, and an INT8 model that computes what integer kernels compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.int8.passes.activations import activation_quantisers
from picoquant.int8.passes.weights import quantise_weight
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import ModelFolder
from tests.networks.ranges import measured_ranges
from tests.networks.small_net import CONFIG, batches, export_small


@pytest.fixture
def source(tmp_path):
    """The small network folded, in a static session: what an INT8 network is made from."""
    export_small(tmp_path / "fp32")
    fold_folder(tmp_path / "fp32")
    model = ProgramModel.load(tmp_path / "fp32")
    ranges = measured_ranges(model, next(batches(1)))
    settings = QuantAwareSettings()
    operators = quantizable_operators(model, settings)
    yield Int8Source(tmp_path / "fp32", {}, ranges, operators, settings)


def test_ranges_that_are_given_are_used():
    weight = np.float32([[0.5, -1.0], [2.0, 0.1]])
    levels, largest = quantise_weight(weight, 0, 8, np.float32([2.0, 1.0]))
    # 0.5 / 2 * 127 = 31.75, -63.5 to even; 2.0 does not fit into 1.0.
    assert levels.tolist() == [[32, -64], [127, 13]] and largest.tolist() == [2.0, 1.0]


def test_every_bias_is_a_whole_number_of_steps(source):
    network = build_network(source)
    assert len(network.operators) == 5
    for operator in network.operators:
        step = operator.scales * source.ranges[operator.activation] / 127
        count = network.values[operator.bias] / step
        assert np.abs(count).max() > 1 and np.abs(count).max() < 2**30
        np.testing.assert_allclose(count, operator.bias_integers, atol=1e-6 * np.abs(count).max())


def test_a_step_that_is_large_in_the_result_is_changed(source):
    """One channel of the stem with weights 10,000 times its bias: the bias alone decides its result."""
    network = build_network(source)
    before = network.operators[0]
    bias = network.values[before.bias][2]
    value = network.float_params[before.weight].copy()
    value[2] *= 1e4 * abs(bias) / np.abs(value[2]).max()
    changed = build_network(replace(source, weights={before.weight: value}))
    after = changed.operators[0]
    # A step would be 10,000 / 127 / 127 = 0.62 of the bias, which would become 0.62 or 1.24 of itself; the weights
    # are stored in steps of the whole bias, 127 * 0.62 = 79.
    assert changed.values[after.bias][2] == pytest.approx(bias, rel=0.05)
    assert np.abs(after.integers[2]).max() == 79
    np.testing.assert_array_equal(np.delete(after.integers, 2, 0), np.delete(before.integers, 2, 0))


def test_quantised_are_results_and_what_leads_to_convolutions(source):
    network = build_network(source)
    names = [name for name, tensor in network.tensors.items() if tensor.quantised]
    sigmoid = [name for name in source.ranges if name.startswith("sigmoid")]
    assert len(names) == 6 and "image" in names and not set(sigmoid) & set(names)
    assert sum(name.startswith("relu6") for name in names) == 3  # and the heads' two results
    # The body in float: what it reads and computes is float, too, and the heads round what they read themselves.
    heads = activation_quantisers(network.graph, source.operators[3:])
    assert list(heads) == names[-2:] and not any(name.startswith("relu6") for name in heads)


def test_paddle_gives_what_onnxruntimes_integer_kernels_give(source, tmp_path):
    """To the bit but for halves, which ONNX Runtime rounds to even and Paddle away from 0."""
    from picoquant.backends.paddle.runtime import open_predictor

    write_lite_model(build_network(source), tmp_path / "int8")
    folder = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    write_onnx_form(Source(folder), tmp_path / "int8.onnx")
    onnx_runtime = OnnxPredictor(tmp_path / "int8.onnx")
    feed = {"image": next(batches(7))["image"][:1]}
    expected, got = onnx_runtime(feed), open_predictor(folder)(feed)
    for theirs, ours in zip(expected, got):
        assert theirs.shape == ours.shape
        assert (np.abs(theirs - ours) > 1e-5).mean() < 0.01


def test_values_are_those_of_the_integers(source):
    network = build_network(source)
    for operator in network.operators:
        expected = operator.integers * operator.scales.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(network.values[operator.weight], expected, rtol=1e-6)
        before = network.float_params[operator.weight]
        # Half a level, and what scales are moved by to be free of ties: 127 levels in 1,300.
        assert np.abs(before - expected).max() <= 0.6 * operator.scales.max()
    assert len(network.float_params) == 10  # five weights and their biases
