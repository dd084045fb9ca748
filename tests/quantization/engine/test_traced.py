"""A network as one static graph computes what it computes operator by operator: results, gradients, what follows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import Operator
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.traced import TracedForward, traceable
from picoquant.quantization.qat.learned_ranges.fixed import Fixed
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.student import open_student
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.small_net import batches

IMAGES = next(batches(7))["image"]
_QUANT = QuantAwareSettings()
ZERO_POINTS = {"image": -128, "relu6_0.tmp_0": -128, "relu6_1.tmp_0": -100, "relu6_2.tmp_0": -128}
STRATEGIES = {"averages": MovingAverage(), "fixed": Fixed(), "zero points": Fixed(ZERO_POINTS)}


def student_of(folder, kind, quant=_QUANT):
    """A student whose ranges cut off a part of every activation but the image."""
    program = ProgramModel.load(folder)
    operators = quantizable_operators(program, quant)
    student = open_student(
        folder, operators, quant, STRATEGIES[kind], Convolutions(True), all_held=kind != "averages"
    )
    for name, found in student.ranges.items():
        found.initialise(1.0 if name == "image" else 0.4)
    return student


def passes(student, forward, following, count=2):
    """Results of the last of some passes, sums of gradients of all, and the state behind them."""
    for _ in range(count):
        results = forward({"image": paddle.to_tensor(IMAGES)}, student.graph.outputs, following)
        weights = [
            paddle.to_tensor(np.cos(np.arange(one.numel().item(), dtype="float32"))) for one in results
        ]
        sum((one.flatten() * weight).sum() for one, weight in zip(results, weights)).backward()
    gradients = {one.name: one.grad.numpy() for one in student.network.trained() if one.grad is not None}
    return [one.numpy() for one in results], gradients, student.state()


@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize("weights", ["channel_wise_abs_max", "abs_max"])
def test_results_gradients_and_state_are_those_of_single_operators(small_model, kind, following, weights):
    quant = replace(_QUANT, weight_quantize_type=weights)
    found = []
    for as_one in (False, True):
        student = student_of(small_model, kind, quant)
        stores = [one.stored for one in student.ranges.values()]
        forward = TracedForward(student.network, stores) if as_one else student.network
        before = student.state()
        found.append(passes(student, forward, following))
        moved = {name for name, value in found[-1][2].items() if not np.array_equal(value, before[name])}
        # An average's weight is where it stays; ranges that are fixed do not move.
        ends = ("_mean", "_variance", *(("@scale", "@accum") if kind == "averages" else ()))
        expected = {name for name in before if name.endswith(ends)}
        assert moved == (expected if following else set())
    (results, gradients, state), (in_one, gradients_in_one, state_in_one) = found
    for one, other in zip(results, in_one):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    assert gradients.keys() == gradients_in_one.keys() and len(gradients) > 10
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        np.testing.assert_allclose(gradients_in_one[name], gradient, atol=2e-4 * largest, err_msg=name)
    for name, value in state.items():
        np.testing.assert_allclose(state_in_one[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_value_that_is_cut_off_has_no_gradient(small_model):
    """With every range far below all values nothing reaches the weights in front of the last rounding."""
    student = student_of(small_model, "fixed")
    for found in student.ranges.values():
        found.initialise(1e-6)
    forward = TracedForward(student.network, [one.stored for one in student.ranges.values()])
    _, gradients, _ = passes(student, forward, following=False, count=1)
    first, *_, last = (op.input("Filter0") for op in student.graph.operators if op.op_type == "conv2d")
    assert not gradients[first].any() and gradients[last].any()


def test_changed_weights_and_ranges_are_read_at_each_call(small_model):
    student = student_of(small_model, "fixed")
    forward = TracedForward(student.network, [one.stored for one in student.ranges.values()])
    first, _, state = passes(student, forward, following=False, count=1)
    student.restore({name: value * np.float32(1.5) for name, value in state.items()})
    second, _, _ = passes(student, forward, following=False, count=1)
    student.restore(state)
    third, _, _ = passes(student, forward, following=False, count=1)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in zip(first, second))
    for one, other in zip(first, third):
        np.testing.assert_array_equal(one, other)


def test_a_graph_serves_any_number_of_images(small_model):
    student = student_of(small_model, "fixed")
    forward = TracedForward(student.network, [one.stored for one in student.ranges.values()])
    together = forward({"image": paddle.to_tensor(IMAGES)}, student.graph.outputs, False)
    for index in range(len(IMAGES)):
        alone = forward({"image": paddle.to_tensor(IMAGES[index : index + 1])}, student.graph.outputs, False)
        for one, other in zip(alone, together):
            np.testing.assert_allclose(one.numpy()[0], other.numpy()[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op_type", "expected"), [("relu", True), ("shape", False), ("gather", False)])
def test_what_looks_at_values_or_shapes_is_not_traced(op_type, expected):
    operators = [Operator("a", op_type, (("X", "image"),), (("Out", "a"),), {})]
    assert traceable(SimpleNamespace(operators=operators)) is expected


def test_numbers_of_images_that_cannot_be_divided_alike_make_another_graph_once(monkeypatch):
    made = []

    def trace(self, key, images, tensors):
        made.append(key.parts)
        return lambda images, tensors: []

    monkeypatch.setattr(TracedForward, "_trace", trace)
    network = SimpleNamespace(graph=SimpleNamespace(inputs=["image"]), stored={})
    forward = TracedForward(network, [])
    for images, traced in ((8, True), (4, False), (6, True), (8, False), (3, True), (8, False), (4, False)):
        assert paddle_3() or forward.traces(["scores"], True, [images]) == traced
        forward({"image": np.zeros((images, 1))}, ["scores"], True)
    assert made == ([1] if paddle_3() else [4, 2, 1])


def test_a_graph_is_made_for_all_parts_of_a_batch(monkeypatch):
    monkeypatch.setattr(TracedForward, "_trace", lambda self, key, images, tensors: key.parts)
    network = SimpleNamespace(graph=SimpleNamespace(inputs=["image"]), stored={})
    forward = TracedForward(network, [])
    assert forward.graph({"image": np.zeros((4, 1))}, ["scores"], False, [4, 4, 3]) == 1
