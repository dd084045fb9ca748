"""Biases that are whole numbers of units, and an INT8 model that computes what integer kernels compute."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.int8.activations import rounded_tensors
from picoquant.int8.operators import QuantizedOperator, quantizable_operators
from picoquant.int8.paddle_writer import (
    Int8Source,
    float_values,
    load_source,
    quantised_weights,
    write_lite_model,
)
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.int8.weights import quantise_weight
from picoquant.paddle_program.batch_norm_folding import fold_model
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.session import static_session
from picoquant.paddle_program.static import load_model
from picoquant.quantization.ptq.observers import observe_ranges
from tests.networks.small_net import CONFIG, batches, export_small


@pytest.fixture
def source(tmp_path):
    """The small network folded, in a static session: what an INT8 model of it is made from, and an executor."""
    export_small(tmp_path / "fp32")
    with static_session():
        executor = paddle.static.Executor(paddle.CPUPlace())
        fold_model(tmp_path / "fp32", executor)
        model = load_model(tmp_path / "fp32", executor)
        ranges = observe_ranges(model, executor, [next(batches(1))], lambda count: None)
        settings = QuantAwareSettings()
        operators = quantizable_operators(model.program, settings)
        yield Int8Source(tmp_path / "fp32", {}, ranges, operators, settings), executor


def test_ranges_that_are_given_are_used():
    weight = np.float32([[0.5, -1.0], [2.0, 0.1]])
    levels, largest = quantise_weight(weight, 0, 8, np.float32([2.0, 1.0]))
    # 0.5 / 2 * 127 = 31.75, -63.5 to even; 2.0 does not fit into 1.0.
    assert levels.tolist() == [[32, -64], [127, 13]] and largest.tolist() == [2.0, 1.0]


def test_every_bias_is_a_whole_number_of_units(source):
    source, executor = source
    with paddle.static.scope_guard(paddle.static.Scope()):
        weights = quantised_weights(source, load_source(source, executor))
    assert len(weights) == 5
    for operator in source.operators:
        weight = weights[operator.output]
        unit = weight.largest.astype(np.float64) / 127 * source.ranges[operator.activation] / 127
        count = weight.bias_value / unit
        assert np.abs(count).max() > 1 and np.abs(count).max() < 2**30
        np.testing.assert_allclose(count, np.rint(count), atol=1e-6 * np.abs(count).max())


def test_a_unit_of_many_levels_is_changed(source):
    """One channel of the stem with weights 10,000 times its bias: the bias alone decides what it gives."""
    source, executor = source
    stem = source.operators[0]
    with paddle.static.scope_guard(paddle.static.Scope()):
        model = load_source(source, executor)
        before = quantised_weights(source, model)[stem.output]
        scope = paddle.static.global_scope()
        value = np.array(scope.find_var(stem.weight).get_tensor())
        value[2] *= 1e4 * abs(before.bias_value[2]) / np.abs(value[2]).max()
        changed = Int8Source(
            source.folder, {stem.weight: value}, source.ranges, source.operators, source.settings
        )
        after = quantised_weights(changed, load_source(changed, executor))[stem.output]
    # A unit would be 10,000 / 127 / 127 = 0.62 of the bias, which would become 0.62 or 1.24 of itself; the weights
    # are stored in units of the whole bias, 127 * 0.62 = 79 levels.
    assert after.bias_value[2] == pytest.approx(before.bias_value[2], rel=0.05)
    assert np.abs(after.levels[2]).max() == 79
    np.testing.assert_array_equal(np.delete(after.levels, 2, 0), np.delete(before.levels, 2, 0))


def test_rounded_are_results_and_what_leads_to_convolutions(source):
    source, executor = source
    model = load_model(source.folder, executor)
    names = rounded_tensors(model.program, model.feeds, source.operators)
    sigmoid = [name for name in source.ranges if name.startswith("sigmoid")]
    assert len(names) == 6 and "image" in names and not set(sigmoid) & set(names)
    assert sum(name.startswith("relu6") for name in names) == 3  # and the heads' two results
    # The body in float: what it takes and gives is float, too, and the heads round what they take themselves.
    heads = rounded_tensors(model.program, model.feeds, source.operators[3:])
    assert heads == names[-2:] and not any(name.startswith("relu6") for name in heads)


def test_paddle_gives_what_onnxruntimes_integer_kernels_give(source, tmp_path):
    """To the bit but for halves, which ONNX Runtime rounds to even and Paddle away from 0."""
    import onnxruntime

    from picoquant.backends.paddle.runtime import open_predictor

    source, executor = source
    write_lite_model(source, executor, tmp_path / "int8")
    folder = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    write_onnx_form(folder, tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    feed = {"image": next(batches(7))["image"][:1]}
    expected, got = session.run(None, feed), open_predictor(folder)(feed)
    for theirs, ours in zip(expected, got):
        assert theirs.shape == ours.shape
        assert (np.abs(theirs - ours) > 1e-5).mean() < 0.01


def test_float_values_are_those_of_the_levels(source):
    source, executor = source
    with paddle.static.scope_guard(paddle.static.Scope()):
        model = load_source(source, executor)
        weights, values = quantised_weights(source, model), float_values(source, model)
    operator: QuantizedOperator = source.operators[0]
    weight = weights[operator.output]
    step = (weight.largest / 127).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(values[operator.weight], weight.levels * step, rtol=1e-6)
    assert weight.bias in values and len(values) == 10
